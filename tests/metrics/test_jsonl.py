"""metrics.jsonl, written, torn, resumed and read back."""

import hashlib
import json
import math
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.errors import NanogptError
from nanogpt_jax.metrics import JsonLines, chain, read_head, read_log, read_metrics


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_the_step_both_clocks_and_the_scalars(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path, clock=lambda: 12.5, wall_clock=lambda: 1_800_000_000.25)
    writer.scalars(7, {"train/loss": 2.5, "train/lr": 1e-3})
    assert written(path) == [
        {
            "step": 7,
            "time": "2027-01-15T08:00:00.250Z",
            "t_monotonic": 12.5,
            "train/loss": 2.5,
            "train/lr": 1e-3,
            "line": 1,
            "sha256": read_head(path),
        }
    ], "before closing, so that a killed run has lost nothing"
    writer.close()


@given(values=st.dictionaries(st.sampled_from(["a", "b/c", "d_se"]), st.floats(width=64)))
def test_every_float_is_read_back_as_it_was(
    values: dict[str, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("exact") / "metrics.jsonl"
    writer = JsonLines(path)
    writer.scalars(1, values)
    writer.close()
    read = read_metrics(path)[1]
    assert {name: value.hex() for name, value in read.items()} == {
        name: value.hex() for name, value in values.items()
    }


def test_values_that_are_not_finite_keep_the_line_readable_for_strict_parsers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    writer.scalars(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    writer.close()

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert [record[name] for name in "abc"] == ["NaN", "Infinity", "-Infinity"]


@given(data=st.data())
def test_wherever_a_crash_tears_the_last_line_the_lines_before_it_survive(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("torn") / "metrics.jsonl"
    writer = JsonLines(path, clock=lambda: 1.0, wall_clock=lambda: 1.0)
    for step in (1, 2, 3):
        writer.scalars(step, {"train/loss": float(step)})
    writer.close()
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: data.draw(st.integers(last, len(whole) - 1))])

    assert list(read_metrics(path)) == [1, 2], "a reader needs no repair"
    writer = JsonLines(path, start_step=2)
    writer.scalars(3, {"train/loss": 30.0})
    writer.close()
    assert path.read_bytes().startswith(whole[:last])
    assert read_metrics(path)[3] == {"train/loss": 30.0}


def test_a_file_that_is_one_torn_line_becomes_empty_and_needs_no_resume_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "tra')
    JsonLines(path).close()
    assert path.read_bytes() == b""


def test_a_resumed_run_says_so_and_cuts_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for start, stop in ((0, 5), (3, 6)):
        writer = JsonLines(path, start_step=start)
        for step in range(start + 1, stop + 1):
            writer.scalars(step, {"train/loss": start + step / 10})
        writer.close()
    records = written(path)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 3, 4, 5, 6]
    assert [record.get("event") for record in records] == [None] * 5 + ["resume"] + [None] * 3
    losses = {step: values["train/loss"] for step, values in read_metrics(path).items()}
    assert losses == {1: 0.1, 2: 0.2, 3: 0.3, 4: 3.4, 5: 3.5, 6: 3.6}


def test_a_reader_forgets_the_steps_that_a_resume_took_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for start in (0, 3):
        writer = JsonLines(path, start_step=start)
        if start == 0:
            for step in range(1, 6):
                writer.scalars(step, {"train/loss": 1.0})
        writer.close()
    assert list(read_metrics(path)) == [1, 2, 3]


def test_a_run_that_crashed_before_its_first_checkpoint_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for loss, steps in ((1.0, (1, 2, 3)), (2.0, (1,))):
        writer = JsonLines(path)
        for step in steps:
            writer.scalars(step, {"train/loss": loss})
        writer.close()
    assert read_metrics(path) == {1: {"train/loss": 2.0}}


def test_lines_of_one_step_are_merged_and_the_last_value_wins(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    writer.scalars(10, {"train/loss": 2.0, "train/lr": 0.1})
    writer.scalars(10, {"val/loss": 3.0, "train/lr": 0.2})
    writer.close()
    assert read_metrics(path) == {10: {"train/loss": 2.0, "train/lr": 0.2, "val/loss": 3.0}}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_at_the_line_that_does_not_fit() -> None:
    writer = JsonLines(Path("/dev/full"))
    with pytest.raises(NanogptError, match=r"^/dev/full .*ENOSPC: No space left.* start again"):
        writer.scalars(1, {"train/loss": 1.0})
    writer.close()


def test_of_a_line_that_fits_in_part_nothing_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    writer.scalars(1, {"train/loss": 1.0})
    whole = path.read_bytes()
    room = len(whole) + 50
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file that may not grow is a disk that is full but for 50 bytes; Python ignores the signal.
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(NanogptError, match=r"metrics\.jsonl cannot be written \(EFBIG"):
            writer.scalars(2, {"train/loss": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole
    writer.scalars(2, {"train/loss": 2.0})
    writer.close()
    assert [record["step"] for record in read_log(path).records] == [1, 2]


def test_evidence_stands_on_the_line_of_its_updates_and_is_no_scalar(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    writer.updates(2, {"train/loss": 0.5}, {"loss_hex": "0x1p-1", "batch_sha256": "ab"})
    writer.event(2, "save", {"params_sha256": "cd"})
    writer.close()
    line, save = written(path)
    assert (line["loss_hex"], line["batch_sha256"]) == ("0x1p-1", "ab")
    assert (save["event"], save["step"], save["params_sha256"]) == ("save", 2, "cd")
    assert read_metrics(path) == {2: {"train/loss": 0.5}}


def test_a_resumed_file_is_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for start in (0, 2, 0):
        writer = JsonLines(path, start_step=start)
        for step in (start + 1, start + 2):
            writer.scalars(step, {"train/loss": 1.0})
        writer.close()
    log = read_log(path)
    assert [record["line"] for record in log.records] == list(range(1, 9))
    assert [record["step"] for record in log.records if "event" in record] == [2, 0]
    assert log.records[-1]["sha256"] == read_head(path)


def test_a_log_without_hashes_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "train/loss": 2.0}\n')
    for use in (JsonLines, read_head, read_log):
        with pytest.raises(NanogptError, match=r"metrics\.jsonl.* required"):
            use(path)
    assert path.read_text() == '{"step": 1, "train/loss": 2.0}\n'
    assert read_metrics(path) == {1: {"train/loss": 2.0}}, "which is all that reading it needs"


@pytest.mark.parametrize(
    "record",
    [
        {"time": "now"},
        {"step": "1"},
        {"step": True},
        {"step": 1, "event": ["save"]},
        {"step": 1, "event": "save"},
        {"step": 1, "loss_hex": "0x1.8p+0"},
        {"step": 1, "loss_hex": "1.5", "batch_sha256": "ab"},
        {"step": 1, "loss_hex": "0x1.8p+99999", "batch_sha256": "ab"},
    ],
)
def test_a_chain_of_lines_that_no_run_writes_is_refused(
    record: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "metrics.jsonl"
    first, link = chain.seal({"step": 0}, chain.START)
    path.write_bytes(first + chain.seal(record, link)[0])
    with pytest.raises(NanogptError, match=r"metrics\.jsonl, line 2 is sealed, but no line"):
        read_log(path)


@pytest.mark.parametrize("body", [b'{"step":,"line":1}', b"{" + b'"a":[' * 10**5 + b'"line":1}'])
def test_a_sealed_line_that_no_parser_takes_is_refused(body: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sha256 = hashlib.sha256(body).hexdigest()
    path.write_bytes(body[:-1] + f',"sha256":"{sha256}"}}\n'.encode())
    with pytest.raises(NanogptError, match=r"line 1 is sealed, but no JSON that can be read"):
        read_log(path)


@given(loss=st.floats())
def test_the_bits_of_any_loss_pass(loss: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("loss") / "metrics.jsonl"
    writer = JsonLines(path)
    writer.updates(1, {}, {"loss_hex": chain.bits_of(loss, 1.0), "batch_sha256": "ab"})
    writer.close()
    assert float.fromhex(read_log(path).records[0]["loss_hex"]).hex() == loss.hex()


def test_a_long_file_is_opened_by_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonLines(path, start_step=7).close()
    (last,) = path.read_bytes().splitlines(keepends=True)
    with open(path, "wb") as file:  # 8 GiB before the last line, which no disk has to hold
        file.seek(2**33)
        file.write(b"\n" + last + b'{"torn')
    began = time.process_time()
    assert read_head(path) == json.loads(last)["sha256"]
    writer = JsonLines(path, start_step=8)
    assert time.process_time() - began < 1
    writer.close()
    with open(path, "rb") as file:
        file.seek(2**33 + 1)
        assert [json.loads(line)["line"] for line in file] == [1, 2]


def test_without_a_file_there_is_no_head_and_no_log(tmp_path: Path) -> None:
    assert read_head(tmp_path / "metrics.jsonl") == ""
    with pytest.raises(NanogptError, match=r"has no metrics\.jsonl.*name a run"):
        read_log(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("line", ["not json", "[1]", "{}", '{"step": 1, "a": "x"}', '{"a": 1}'])
def test_a_line_that_is_not_ours_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1}\n' + line + "\n")
    with pytest.raises(NanogptError, match=r"metrics\.jsonl, line 2 .* remove the line"):
        read_metrics(path)
