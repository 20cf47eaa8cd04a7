"""A log tells what a run did: tampering shows, a step comes out again, two runs part somewhere."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import cli
from nanogpt_jax.audit import audit, require_steps
from nanogpt_jax.checkpoint.__main__ import COMMANDS
from nanogpt_jax.checkpoint.sidecar import compose, read
from nanogpt_jax.errors import Damaged, ExitCode, NanogptError
from nanogpt_jax.metrics import chain
from nanogpt_jax.parting import find_parting
from nanogpt_jax.replay import replay
from nanogpt_jax.train import train
from tests.runs import TEXT, lines_of, small_plan, small_run

COARSE = {"log.every_steps": 4, "checkpoint.every_steps": 3, "train.steps": 7}
LONGER = {"train.steps": 9, "schedule.total_steps": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain` has a line for every step, `coarse` for every fourth; `seeded` has another seed.

    `coarse` was resumed at step 7.
    """
    folder = tmp_path_factory.mktemp("audited")
    small_run(folder / "plain")
    small_run(folder / "coarse", COARSE)
    small_run(folder / "coarse", COARSE | LONGER)
    small_run(folder / "seeded", {"seed": 1, "train.steps": 2})
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A function that copies a run, with its text beside it."""
    shutil.copy(folder / "tables.txt", tmp_path)
    return lambda name: Path(shutil.copytree(folder / name, tmp_path / name))


def source_in(folder: Path) -> str:
    return f"text:{folder / 'tables.txt'}"


def main(*words: str) -> None:
    cli.bind(COMMANDS, words)()


def reseal(run: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Writes the log of a run anew, with a change and with a chain that holds."""
    records, before = lines_of(run), chain.START
    change(records)
    with open(run / "metrics.jsonl", "wb") as file:
        for record in records:
            bare = {name: record[name] for name in record if name not in ("line", "sha256")}
            line, before = chain.seal(bare, before)
            file.write(line)


def content_of(run: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in run.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_line_of_training_has_the_bits_of_its_loss_and_the_hash_of_its_batch(
    folder: Path,
) -> None:
    plan = small_plan(folder)
    lines = [line for line in lines_of(folder / "plain") if "loss_hex" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        # A line for every step: its mean is the loss of that step alone, in double precision too.
        assert float.fromhex(line["loss_hex"]) == line["train/loss"]
    assert len({line["batch_sha256"] for line in lines}) == plan.steps


def test_between_two_lines_every_batch_counts(folder: Path) -> None:
    plain = [line["batch_sha256"] for line in lines_of(folder / "plain") if "loss_hex" in line]
    four = ""
    for sha256 in plain[:4]:
        four = chain.fold(four, sha256)
    coarse = [line for line in lines_of(folder / "coarse") if "loss_hex" in line]
    assert [line["step"] for line in coarse] == [4, 7, 8, 9]
    assert coarse[0]["batch_sha256"] == four


def test_a_save_is_a_line_before_it_and_the_last_line_of_a_run(folder: Path) -> None:
    lines = lines_of(folder / "coarse")
    saves = [line for line in lines if line.get("event") == "save"]
    assert [line["step"] for line in saves] == [3, 6, 7, 9]
    assert lines[-1] is saves[-1], "so a checkpoint names every line of a run that has ended"
    for save in saves:
        path = folder / f"coarse/checkpoints/{save['step']}/metadata.json"
        assert json.loads(path.read_text())["log_sha256"] == save["sha256"]


def test_nothing_of_this_machine_is_in_a_log(folder: Path) -> None:
    text = (folder / "coarse/metrics.jsonl").read_text()
    assert str(folder) not in text and "/tmp" not in text


def test_an_honest_run_passes_and_its_resume_is_counted(folder: Path) -> None:
    found = audit(folder / "coarse")
    assert (found.resumes, found.saves, found.checkpoints, found.torn_bytes) == (1, 4, 4, 0)
    assert found.lines == len(lines_of(folder / "coarse"))
    assert found.head == lines_of(folder / "coarse")[-1]["sha256"]


def test_a_torn_last_line_passes_and_is_told(copy: Callable[[str], Path]) -> None:
    run = copy("plain")
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"step":7,"ti')
    assert audit(run).torn_bytes == 13
    assert "a torn last line of 13 bytes" in str(audit(run))


@given(data=st.data())
def test_any_change_of_any_line_of_a_run_is_found(folder: Path, data: st.DataObject) -> None:
    path = folder / "coarse/metrics.jsonl"
    honest = path.read_bytes()
    lines = honest.splitlines(keepends=True)
    index = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[index]) - 2))
    byte = lines[index][place : place + 1]
    other = data.draw(
        st.sampled_from([b"0", b"9", b"a", b" ", b""]).filter(lambda new: new != byte)
    )
    changed = lines[index][:place] + other + lines[index][place + 1 :]
    variants = {
        "changed": [*lines[:index], changed, *lines[index + 1 :]],
        "removed": [*lines[:index], *lines[index + 1 :]],
        "inserted": [*lines[: index + 1], *lines[index:]],
    }
    if index:
        swapped = [lines[index], lines[index - 1]]
        variants["reordered"] = [*lines[: index - 1], *swapped, *lines[index + 1 :]]
    try:
        for what, tampered in variants.items():
            path.write_bytes(b"".join(tampered))
            with pytest.raises(NanogptError) as told:
                audit(folder / "coarse")
            last = what == "removed" and index == len(lines) - 1
            assert ("checkpoint 9" in str(told.value)) if last else (", line " in str(told.value))
            if what in ("removed", "inserted", "reordered") and not last:
                assert f" is {what}" in str(told.value)
    finally:
        path.write_bytes(honest)


def test_the_log_of_another_run_is_found_by_the_checkpoints(copy: Callable[[str], Path]) -> None:
    run = copy("plain")
    reseal(run, lambda records: records[2].update({"train/loss": 1.0}))
    with pytest.raises(NanogptError, match=r"no line of step 2 .* checkpoint 2 names"):
        audit(run)


def test_a_checkpoint_under_another_step_of_the_log_is_found(copy: Callable[[str], Path]) -> None:
    run = copy("plain")
    path = run / "checkpoints/4/metadata.json"
    earlier = next(one["sha256"] for one in lines_of(run) if one["step"] == 2)
    path.write_text(compose(dataclasses.replace(read(path), log_sha256=earlier)))
    with pytest.raises(NanogptError, match=r"no line of step 4 .* checkpoint 4 names"):
        audit(run)
    path.write_text(path.read_text().replace(earlier, "0" * 64))
    with pytest.raises(Damaged, match=r"checkpoints/4/metadata\.json"):
        audit(run)


def line(step: int) -> dict[str, Any]:
    return {"step": step, "loss_hex": "0x1p+0"}


def save(step: int) -> dict[str, Any]:
    return {"event": "save", "step": step}


def resume(step: int) -> dict[str, Any]:
    return {"event": "resume", "step": step}


HONEST = [line(10), {"step": 10}, line(20), save(25), line(30), resume(25), line(30), line(33)]


def test_the_steps_of_a_run_that_went_on_are_in_order() -> None:
    require_steps(Path("log"), [*HONEST, save(33), resume(33), line(40)], 10)
    require_steps(Path("log"), [line(7), line(14), save(14), resume(14), line(20)], 10)
    require_steps(Path("log"), [line(10), resume(0), line(10)], 10)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([line(10), line(30)], "line 2 is of updates up to step 30.*step 20 is required"),
        ([line(10), line(15), line(20)], "line 2 is of updates up to step 15"),
        ([line(10), line(10)], "line 2 is of updates up to step 10"),
        ([line(10), {"step": 9}], "line 2 is of step 9, after step 10 and no resume"),
        ([line(10), resume(10)], "line 2 goes on from step 10, which no line says was saved"),
        ([line(7), save(7), resume(7), line(17)], "line 4 .* step 10 is required"),
    ],
)
def test_a_step_that_cannot_follow_is_named(records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(NanogptError, match=message):
        require_steps(Path("log"), records, 10)


@pytest.mark.parametrize(
    ("run", "step", "first", "names"),
    [
        ("plain", 1, 0, ["batch_sha256", "loss_hex"]),
        ("plain", 4, 2, ["batch_sha256", "loss_hex", "params_sha256"]),
        ("coarse", 4, 0, ["batch_sha256", "loss_hex"]),
        ("coarse", 7, 3, ["batch_sha256", "loss_hex", "params_sha256"]),
        ("coarse", 8, 7, ["batch_sha256", "loss_hex"]),
        ("coarse", 9, 7, ["batch_sha256", "loss_hex", "params_sha256"]),
    ],
)
def test_a_step_comes_out_again_bit_for_bit(
    folder: Path, run: str, step: int, first: int, names: list[str]
) -> None:
    before = content_of(folder / run)
    found = replay(folder / run, step, source_in(folder))
    assert (found.first, found.difference) == (first, None)
    assert [fact.name for fact in found.facts if fact.step == step] == names
    assert content_of(folder / run) == before, "nothing is written into the run"


def test_a_replay_names_the_first_thing_that_differs(copy: Callable[[str], Path]) -> None:
    run = copy("plain")

    def lie(records: list[dict[str, Any]]) -> None:
        told = next(one for one in records if one["step"] == 3 and "loss_hex" in one)
        told["loss_hex"] = (float.fromhex(told["loss_hex"]) * (1 + 2**-52)).hex()

    reseal(run, lie)
    found = replay(run, 3, source_in(run.parent))
    assert found.difference is not None and found.difference.name == "loss_hex"
    table = str(found).splitlines()
    assert table[0] == "step 3, replayed from state 2"
    assert [row.split()[-1] for row in table[2:]] == ["same", "DIFFERENT"]
    with pytest.raises(NanogptError, match="loss_hex of step 3 is the first that differs") as told:
        main("replay", str(run), "--step=3", f"--source={source_in(run.parent)}")
    assert told.value.exit_code == ExitCode.FAILED


def test_a_checkpoint_of_another_run_is_found_by_its_parameters(
    copy: Callable[[str], Path], folder: Path
) -> None:
    run = copy("plain")
    shutil.rmtree(run / "checkpoints/2")
    shutil.copytree(folder / "seeded/checkpoints/2", run / "checkpoints/2")
    found = replay(run, 3, source_in(run.parent)).difference
    assert found is not None and (found.step, found.name) == (2, "params_sha256")


def test_a_damaged_checkpoint_is_not_replayed_from(copy: Callable[[str], Path]) -> None:
    run = copy("plain")
    array = max((run / "checkpoints/2").rglob("d/*"), key=lambda path: path.stat().st_size)
    array.write_bytes(b"\0" * array.stat().st_size)
    with pytest.raises(Damaged, match=array.name):
        replay(run, 3, source_in(run.parent))


@pytest.mark.slow
def test_dropout_packing_and_accumulation_come_out_again(tmp_path: Path) -> None:
    changes = {
        "model.n_layer": 2,
        "model.n_head": 2,
        "model.n_kv_head": 1,
        "model.dropout": 0.2,
        "train.accumulate_steps": 2,
        "data.window": "shuffled",
        "data.format": "packed",
        "data.prefetch": 2,
        "log.every_steps": 2,
    }
    (tmp_path / "tables.txt").write_text(TEXT.replace("\n", "\n\n"))
    train(small_plan(tmp_path, changes, "gpt"), tmp_path / "run")
    train(small_plan(tmp_path, changes | {"train.steps": 9}, "gpt"), tmp_path / "run")
    assert audit(tmp_path / "run").resumes == 1
    for step in (2, 4, 6, 8, 9):
        found = replay(tmp_path / "run", step, source_in(tmp_path))
        assert found.difference is None and len(found.facts) > 1


def test_what_differs_on_the_way_is_named_first(copy: Callable[[str], Path]) -> None:
    run = copy("plain")

    def lie(records: list[dict[str, Any]]) -> None:
        next(one for one in records if one["step"] == 1)["batch_sha256"] = "0" * 64

    reseal(run, lie)
    shutil.rmtree(run / "checkpoints/2")  # so that step 3 is replayed from state 0
    found = replay(run, 3, source_in(run.parent))
    assert found.difference is not None
    assert (found.first, found.difference.step, found.difference.name) == (0, 1, "batch_sha256")


def test_a_step_without_a_line_names_the_nearest_that_have_one(folder: Path) -> None:
    with pytest.raises(NanogptError, match=r"up to step 6: the nearest are 4 and 7$"):
        replay(folder / "coarse", 6)


def test_across_a_change_of_meaning_nothing_is_replayed(copy: Callable[[str], Path]) -> None:
    run = copy("plain")
    record = json.loads((run / "run.json").read_text())
    record["changes"] = [{"step": 2, "field": "seed", "from": 1, "to": 0}]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(NanogptError, match=r"seed was changed at step 2 .*step 2 .* from step 0"):
        replay(run, 2, source_in(run.parent))
    assert replay(run, 3, source_in(run.parent)).difference is None


def test_another_text_is_refused(copy: Callable[[str], Path]) -> None:
    run = copy("plain")
    (run.parent / "tables.txt").write_text(TEXT.replace("times", "and"))
    with pytest.raises(NanogptError, match="corpus") as told:
        replay(run, 3, source_in(run.parent))
    assert told.value.exit_code == ExitCode.MISMATCH


def test_a_run_does_not_part_from_itself(folder: Path, copy: Callable[[str], Path]) -> None:
    found = find_parting(folder / "plain", copy("plain"))
    assert (found.equal_until, found.step, found.cause, found.fields) == (6, None, None, ())


def test_two_seeds_part_at_the_first_step_by_their_config(folder: Path) -> None:
    found = find_parting(folder / "plain", folder / "seeded")
    assert (found.equal_until, found.step, found.cause) == (0, 1, "config")
    assert "seed: 0, and 1" in found.fields


@pytest.mark.parametrize(("field", "cause"), [("batch_sha256", "data"), ("loss_hex", "numerics")])
def test_data_and_numerics_are_told_apart(
    field: str, cause: str, folder: Path, copy: Callable[[str], Path]
) -> None:
    run = copy("plain")

    def part(records: list[dict[str, Any]]) -> None:
        for one in records:
            if one["step"] >= 4 and field in one:
                one[field] = "0x1.8p+0"

    reseal(run, part)
    found = find_parting(folder / "plain", run)
    assert (found.equal_until, found.step, found.cause) == (3, 4, cause)
    with pytest.raises(NanogptError, match=f"part at step 4: {cause}"):
        main("bisect", str(folder / "plain"), str(run))


def test_lines_for_other_stretches_are_compared_by_their_loss_alone(folder: Path) -> None:
    small_run(folder / "sparse", {"log.every_steps": 2})
    hashes = [
        {one["step"]: one["batch_sha256"] for one in lines_of(folder / run) if "loss_hex" in one}
        for run in ("plain", "sparse")
    ]
    assert hashes[0][4] != hashes[1][4], "of one batch, and of two"
    found = find_parting(folder / "plain", folder / "sparse")
    assert (found.step, found.equal_until) == (None, 6)
    assert found.fields == ("log.every_steps: 1, and 2",)


def test_the_commands_print_what_was_found(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main("audit", str(folder / "coarse/checkpoints"))
    assert "1 resumes, 4 saves, 4 checkpoints" in capsys.readouterr().out
    main("replay", str(folder / "plain"), "--step", "2", f"--source={source_in(folder)}")
    assert capsys.readouterr().out.count("same") == 3
    main("bisect", str(folder / "plain"), str(folder / "plain"))
    assert capsys.readouterr().out.startswith("equal up to step 6")
