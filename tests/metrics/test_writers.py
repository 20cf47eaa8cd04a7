"""Many writers as one, and the files of a run directory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax.errors import ExitCode, NonFinite, exit_code_of
from nanogpt_jax.metrics import Writer, Writers, open_writers, read_metrics


class Recorder(Writer):
    """Remembers what it was told, and fails at closing if it is to."""

    def __init__(self, name: str, closed: list[str], error: Exception | None = None):
        self.name, self.closed, self.error = name, closed, error
        self.calls: list[tuple[object, ...]] = []

    def scalars(self, step: int, values: Any) -> None:
        self.calls.append((step, values))

    def text(self, step: int, name: str, text: str) -> None:
        self.calls.append((step, name, text))

    def config(self, values: Any) -> None:
        self.calls.append((values,))

    def close(self) -> None:
        self.closed.append(self.name)
        if self.error is not None:
            raise self.error


def test_every_writer_gets_everything() -> None:
    recorders = [Recorder("a", []), Recorder("b", [])]
    with Writers(*recorders) as writers:
        writers.config({"seed": 1})
        writers.scalars(1, {"x": 2.0})
        writers.text(1, "sample", "abc")
    for recorder in recorders:
        assert recorder.calls == [({"seed": 1},), (1, {"x": 2.0}), (1, "sample", "abc")]


def test_all_writers_are_closed_and_the_first_error_is_raised() -> None:
    closed: list[str] = []
    writers = Writers(
        Recorder("a", closed),
        Recorder("b", closed, OSError("disk full")),
        Recorder("c", closed, ValueError("broken")),
        Recorder("d", closed),
    )
    with pytest.raises(OSError, match="disk full") as raised, writers:
        pass
    assert sorted(closed) == ["a", "b", "c", "d"]
    assert isinstance(raised.value.__context__, ValueError)


def test_an_error_of_the_run_is_not_lost_to_one_of_closing() -> None:
    closed: list[str] = []
    with pytest.raises(NonFinite) as raised, Writers(Recorder("a", closed, OSError("disk full"))):
        raise NonFinite("loss is nan")
    assert closed == ["a"]
    assert exit_code_of(raised.value) == ExitCode.NON_FINITE
    assert isinstance(raised.value.__context__, OSError)


def test_a_run_directory_gets_its_files(
    tmp_path: Path, events_in: Callable[[Path], list[Any]]
) -> None:
    for start_step in (0, 20):
        with open_writers(tmp_path, start_step=start_step, total_steps=40) as writers:
            writers.scalars(start_step + 10, {"train/loss": 1.0, "train/lr": 0.1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [10, 30]
    starts = [
        event.step for event in events_in(tmp_path / "tensorboard") if event.HasField("session_log")
    ]
    assert starts == [1, 21], "the update after the restored state is the first to be repeated"


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, nanogpt_jax.metrics, nanogpt_jax.interrupt; "
        "print({'jax', 'numpy', 'rich', 'tensorboardX', 'wandb', 'trackio'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
