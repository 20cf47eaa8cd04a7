"""Real processes, real signals: what is ended goes on as if nothing had happened, or is refused.

Each process takes seconds to import and compile, so they are few, and each row says several things.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from nanogpt_jax import checkpoint
from nanogpt_jax.checkpoint import digest_step, list_steps, read_sidecar
from nanogpt_jax.errors import ExitCode
from tests.runs import lines_of, steps_of

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 100

# Dropout draws from the run's key, accumulation splits a batch, documents wait to be packed: all of
# that must go on where it was.
OPTIONS = {
    "data.format": "packed",
    "model.dropout": 0.1,
    "train.accumulate_steps": 2,
    "train.steps": STEPS,
    "log.every_steps": 1,
    "eval.every_steps": 25,
    "eval.samples": 1,
    "checkpoint.every_steps": 40,
    "checkpoint.milestones": 0,
}


@contextmanager
def started(
    workdir: Path, changes: dict[str, int] | None = None, programs: str = "programs"
) -> Iterator[subprocess.Popen[str]]:
    """The main job on one core; it waits when its log is more than a page ahead of its reader.

    What it compiles is kept in the folder `programs` beside it, for the next process.
    """
    core = min(os.sched_getaffinity(0))
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "NANOGPT_CACHE": str(workdir.parent / "tokens"),
    }
    process = subprocess.Popen(
        [
            *("taskset", "-c", str(core), sys.executable, "-m", "nanogpt_jax.main"),
            *("--config=configs/tiny.py", f"--workdir={workdir}"),
            *(f"--config.{name}={value}" for name, value in (OPTIONS | (changes or {})).items()),
        ],
        cwd=REPOSITORY,
        env=os.environ | cache | {"JAX_PLATFORMS": "cpu", "JAX_LOG_COMPILES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(log: IO[str] | None, words: str) -> None:
    assert log is not None
    seen = []
    for line in log:
        seen.append(line)
        if words in line:
            return
    raise AssertionError(f"{words!r} is not in the log:\n{''.join(seen)}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An unbroken run, and one of two processes because a signal has ended the first.

    `interrupted.json` beside them holds the steps that the broken run had then saved.
    """
    parent = tmp_path_factory.mktemp("runs")
    unbroken, broken = parent / "unbroken", parent / "broken"
    with started(unbroken) as process:
        text, log = process.communicate(timeout=300)
        assert process.returncode == ExitCode.DONE, log
        assert len(text.strip()) > 10, "a sample"
    with started(broken) as process:
        read_until(process.stderr, "step=53/")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=300)
        assert process.returncode == ExitCode.INTERRUPTED, log
        assert "interrupted and saved at step" in log
    (parent / "interrupted.json").write_text(json.dumps(list_steps(broken)))
    with started(broken) as process:
        assert process.communicate(timeout=300)[0] == text
        assert process.returncode == ExitCode.DONE
    return {"unbroken": unbroken, "broken": broken}


@pytest.mark.slow
def test_an_interrupted_and_resumed_run_has_the_digest_of_an_unbroken_one(
    runs: dict[str, Path],
) -> None:
    *earlier, stopped = json.loads((runs["broken"].parent / "interrupted.json").read_text())
    assert earlier == [40] and 53 <= stopped < STEPS
    assert read_sidecar(runs["broken"], stopped).interrupted
    assert list_steps(runs["unbroken"]) == [40, 80, 100]
    assert list_steps(runs["broken"]) == sorted({40, stopped, 80, 100})
    for step in (40, 80, STEPS):
        assert digest_step(runs["broken"], step) == digest_step(runs["unbroken"], step), step
    assert digest_step(runs["unbroken"], 80) != digest_step(runs["unbroken"], STEPS)


def test_no_step_is_missing_or_repeated_in_the_metrics_of_a_resumed_run(
    runs: dict[str, Path],
) -> None:
    resumed = [line["step"] for line in lines_of(runs["broken"]) if "event" in line]
    assert len(resumed) == 1 and resumed[0] not in (0, STEPS)
    assert [line for line in lines_of(runs["unbroken"]) if "event" in line] == []
    for name in ("train/loss", "val/loss"):
        told = {
            key: [(line["step"], line[name]) for line in lines_of(path) if name in line]
            for key, path in runs.items()
        }
        assert told["broken"] == told["unbroken"], name
    assert steps_of(runs["broken"], "train/loss") == list(range(1, STEPS + 1))
    assert steps_of(runs["broken"], "val/loss") == [0, 25, 50, 75, 100]


def test_a_second_signal_ends_the_process_and_nothing_is_saved_by_it(
    runs: dict[str, Path],
) -> None:
    run = runs["broken"]
    before = {step: digest_step(run, step) for step in list_steps(run)}
    with started(run, {"train.steps": 10 * STEPS}, "no programs") as process:
        read_until(process.stderr, f"resuming from step {STEPS}")
        read_until(process.stderr, "Compiling jit(train_step)")  # the run cannot end yet
        process.send_signal(signal.SIGTERM)
        read_until(process.stderr, "a second signal within two seconds stops at once")
        time.sleep(0.1)  # no echo of the first
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == ExitCode.ABORTED
    assert {step: digest_step(run, step) for step in list_steps(run)} == before
    assert len(before) == 4


def test_a_second_process_in_a_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    with checkpoint.lock_run(tmp_path / "run"), started(tmp_path / "run") as process:
        text, log = process.communicate(timeout=60)
    assert process.returncode == ExitCode.LOCKED
    assert log.startswith("error: ") and f"in use by process {os.getpid()}" in log
    assert len(log.splitlines()) == 1 and text == ""
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]
