"""metrics.jsonl, written, torn, resumed and read back."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.errors import NanogptError
from nanogpt_jax.metrics import JsonLines, read_metrics


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
    with pytest.raises(OSError, match="No space left"):
        writer.scalars(1, {"train/loss": 1.0})
    with pytest.raises(OSError, match="No space left"):
        writer.close()


@pytest.mark.parametrize("line", ["not json", "[1]", "{}", '{"step": 1, "a": "x"}', '{"a": 1}'])
def test_a_line_that_is_not_ours_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1}\n' + line + "\n")
    with pytest.raises(NanogptError, match=r"metrics\.jsonl, line 2 .* remove the line"):
        read_metrics(path)
