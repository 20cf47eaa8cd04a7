"""A run goes on as what it is: what it means stays, unless a change is allowed and written down."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax import cli, errors, main, record
from nanogpt_jax.config import flatten
from nanogpt_jax.errors import ConfigError, ExitCode, Mismatch
from nanogpt_jax.experiment import Plan, assemble
from nanogpt_jax.experiment.identity import continue_run
from nanogpt_jax.record import Record
from nanogpt_jax.start import Start
from tests.runs import TEXT, content_of, lines_of, small_plan, small_run

# What a run may do otherwise from start to start; whoever adds to it has thought about it.
FREE = {
    *("train.steps", "train.max_tokens", "train.max_seconds", "train.attention"),
    *("train.on_nonfinite", "train.max_skipped", "train.hang_seconds"),
    *("train.accumulate_steps", "model.remat"),  # the first: where nothing minds micro-shards
    *("data.source", "data.prefetch", "data.on_bad_record", "data.max_bad_records"),
    *("tokenizer.path", "tokenizer.source"),
    *("parallel.mode", "parallel.data", "parallel.fsdp", "parallel.tensor"),
}
FREE_SECTIONS = ("eval.", "checkpoint.", "log.", "profile.")
OTHERWISE = {
    "seed": 5,
    "train.batch_size": 8,
    "train.seq_len": 8,
    "optimizer.name": "adam",
    "optimizer.learning_rate": 0.02,
    "optimizer.b1": 0.8,
    "optimizer.weight_decay": 0.2,
    "optimizer.clip_norm": 2.0,
    "schedule.min_ratio": 0.5,
    "schedule.warmup_steps": 2,
    "schedule.total_steps": 9,
    "data.window": "shuffled",
    "data.val_fraction": 0.2,
    "data.format": "documents",
    "init.from": "elsewhere",
    "model.n_head": 2,
    "model.dropout": 0.1,
}


def plan_of(folder: Path, changes: dict[str, Any] | None = None) -> Plan:
    return small_plan(folder, {"model.n_layer": 1, **(changes or {})}, model="gpt")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of a first start of a small GPT."""
    folder = tmp_path_factory.mktemp("made")
    return assemble(plan_of(folder), folder / "run", []).record


@pytest.fixture
def run(made: Record, tmp_path: Path) -> Path:
    """The directory of a run that has started like that, and trained nothing."""
    made.save(tmp_path / "run")
    return tmp_path / "run"


def rewritten(made: Record, changes: dict[str, Any]) -> Record:
    """`made`, as if the fields had been asked for otherwise."""
    config = copy.deepcopy(made.config)
    for field, value in changes.items():
        section, _, name = field.rpartition(".")
        (config[section] if section else config)[name] = value
    return dataclasses.replace(made, config=config)


def go_on(made: Record, run: Path, allowed: Sequence[str] = (), **more: Any) -> Record:
    """What `continue_run` makes of a start without a length of its own for the schedule."""
    return continue_run(made, plan_of(run.parent), run, allowed, **more)


@pytest.mark.parametrize("field", OTHERWISE)
def test_another_value_of_what_a_run_means_is_refused_by_its_name(
    field: str, made: Record, run: Path
) -> None:
    plan = plan_of(run.parent, {field: OTHERWISE[field]})
    asked = rewritten(made, {field: OTHERWISE[field]})
    with pytest.raises(Mismatch) as told:
        continue_run(asked, plan, run)
    assert f"{field} (run: " in str(told.value) and f"asked: {OTHERWISE[field]})" in str(told.value)
    assert errors.exit_code_of(told.value) == ExitCode.MISMATCH


def test_every_setting_is_meaning_or_declared_free(made: Record, run: Path) -> None:
    # What `auto` has come to means the same wherever it is written; the schedule keeps its length.
    fields = flatten(made.config).keys() - {"train.compute_dtype", "schedule.total_steps"}
    plan, refused = plan_of(run.parent), set()
    for field in fields:
        try:
            continue_run(rewritten(made, {field: "other"}), plan, run)
        except Mismatch as told:
            assert f"{field} (run: " in str(told)
            refused.add(field)
    free = {field for field in fields - refused if not field.startswith(FREE_SECTIONS)}
    assert free == FREE


def test_more_steps_are_no_change_and_keep_the_length_of_the_schedule(
    made: Record, run: Path
) -> None:
    asked = rewritten(made, {"train.steps": 60, "schedule.total_steps": 60})
    found = go_on(asked, run)
    assert found.config["train"]["steps"] == 60
    assert found.config["schedule"]["total_steps"] == 6 and found.changes == []


@pytest.mark.parametrize("name", ["corpus", "tokenizer"])
def test_other_content_under_the_same_name_is_refused(name: str, made: Record, run: Path) -> None:
    text = TEXT + "0 times 0 is 0.\n" if name == "corpus" else TEXT.replace("7", "ü")
    (run.parent / "tables.txt").write_text(text)
    plan = plan_of(run.parent)
    asked = assemble(plan, run.parent / "new", []).record
    assert asked.config == made.config and asked.shape == made.shape
    with pytest.raises(Mismatch, match=rf"{name} \(run: "):
        continue_run(asked, plan, run)


def test_an_opening_is_no_meaning_and_a_run_that_is_older_gains_one(
    made: Record, run: Path
) -> None:
    assert made.corpus["opening"] == "18 times 3 is 54.\n18 times 4 is 72.\n18"
    dataclasses.replace(made, corpus=made.corpus | {"opening": ""}).save(run)
    found = go_on(made, run)
    assert found.changes == [] and found.corpus == made.corpus


def test_a_corpus_that_may_change_is_named_in_the_record_without_its_opening(
    made: Record, run: Path
) -> None:
    other = dataclasses.replace(made, corpus=made.corpus | {"fingerprint": "f", "opening": "Then"})
    with pytest.raises(Mismatch) as told:
        go_on(other, run)
    assert "corpus (run: " in str(told.value) and "times" not in str(told.value)
    [change] = go_on(other, run, ["corpus"]).changes
    assert change["field"] == "corpus"
    assert change["from"].keys() == change["to"].keys() == {"source", "fingerprint", "running"}


def test_micro_shards_are_meaning_where_dropout_draws_for_each(made: Record, run: Path) -> None:
    shards = {"train.accumulate_steps": 2}
    assert go_on(rewritten(made, shards), run).config["train"]["accumulate_steps"] == 2
    dropping = rewritten(made, {"model.dropout": 0.1})
    dropping.save(run)
    with pytest.raises(Mismatch, match=r"train\.accumulate_steps \(run: 1, asked: 2\)"):
        go_on(rewritten(dropping, shards), run)


def test_auto_is_the_precision_that_it_was_where_the_run_started(made: Record, run: Path) -> None:
    assert made.config["train"]["compute_dtype"] == "auto" and made.compute_dtype == "float32"
    assert go_on(rewritten(made, {"train.compute_dtype": "float32"}), run).changes == []
    dataclasses.replace(made, compute_dtype="bfloat16").save(run)
    line = r"train\.compute_dtype \(run: bfloat16, asked: float32\)"
    with pytest.raises(Mismatch, match=line):
        go_on(made, run)


def test_an_allowed_change_is_kept_in_the_record_and_the_same_command_goes_on(
    made: Record, run: Path
) -> None:
    changes = {"seed": 5, "optimizer.learning_rate": 0.02}
    asked = rewritten(made, changes)
    with pytest.raises(Mismatch, match=r"seed \(.*--allow_change=seed$") as told:
        go_on(asked, run, ["optimizer.learning_rate"])
    assert "learning_rate" not in str(told.value)
    found = go_on(asked, run, [*changes], step=4)
    assert sorted(found.changes, key=lambda change: change["field"]) == [
        {"step": 4, "field": "optimizer.learning_rate", "from": 0.01, "to": 0.02},
        {"step": 4, "field": "seed", "from": 0, "to": 5},
    ]
    found.save(run)
    assert go_on(asked, run, [*changes], step=6) == found
    assert go_on(asked, run, step=6) == found


def test_a_head_count_is_refused_whatever_is_allowed(made: Record, run: Path) -> None:
    asked = rewritten(made, {"model.n_head": 2, "seed": 5})
    with pytest.raises(Mismatch, match=r"model\.n_head") as told:
        go_on(asked, run, ["model.n_head", "seed"])
    assert "seed" not in str(told.value) and "--allow_change" not in str(told.value)


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("sede", "--allow_change='sede' is not known; did you mean 'seed'?"),
        ("optimizer.b1", "--allow_change=optimizer.b1: nothing to allow"),
        ("train.steps", "--allow_change=train.steps: nothing to allow"),
    ],
)
def test_what_is_allowed_in_vain_is_a_wrong_command(
    field: str, line: str, made: Record, run: Path
) -> None:
    asked = rewritten(made, {"seed": 5, "train.steps": 9})
    for workdir in (run, run.parent / "new"):
        with pytest.raises(ConfigError) as told:
            go_on(asked, workdir, ["seed", field])
        assert any(problem.startswith(line) for problem in told.value.problems)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--config=configs/tiny.py", "--fresh", "--allow_change=seed"], "for a run that goes on"),
        (["--config=configs/compare.py", "--allow_change=seed"], "for one run"),
    ],
)
def test_the_command_allows_nothing_where_nothing_goes_on(words: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        cli.bind(main.main, words)()


def test_a_resumed_run_trains_with_what_was_allowed_and_says_since_when(tmp_path: Path) -> None:
    workdir, constant = tmp_path / "run", {"schedule.min_ratio": 1.0}
    small_run(workdir, {"train.steps": 4, **constant})
    before = content_of(workdir)
    faster = {"train.steps": 5, "optimizer.learning_rate": 0.02, **constant}
    with pytest.raises(Mismatch, match=r"optimizer\.learning_rate"):
        small_run(workdir, faster)
    assert content_of(workdir) == before
    small_run(workdir, faster, start=Start(allow_change=("optimizer.learning_rate",)))
    rates = {line["step"]: line["train/lr"] for line in lines_of(workdir) if "train/lr" in line}
    assert rates[4] == pytest.approx(0.01) and rates[5] == pytest.approx(0.02)
    assert record.read(workdir).changes == [
        {"step": 4, "field": "optimizer.learning_rate", "from": 0.01, "to": 0.02}
    ]
