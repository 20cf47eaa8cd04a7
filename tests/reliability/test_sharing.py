"""T7: one trainer in a run directory, and any number of readers beside it."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from nanogpt_jax import experiment
from nanogpt_jax.errors import ExitCode
from tests.reliability.conftest import Proven
from tests.reliability.trainer import (
    PATIENCE_SECONDS,
    log_of,
    newest,
    started,
    train,
    wait_for,
)

# Of a step that is pruned while it is read Orbax leaves coroutines, which complain when they go.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ENDLESS = {"train.steps": 1_000_000, "checkpoint.every_steps": 10, "checkpoint.keep": 3}
HECTIC = {**ENDLESS, "checkpoint.every_steps": 2, "checkpoint.keep": 1}
REFUSED_SECONDS = 2.0


@pytest.fixture
def busy(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A run without end that saves and prunes all the time, and its process."""
    changes = getattr(request, "param", ENDLESS)
    with started(tmp_path / "run", changes) as process:
        saved = 4 * changes["checkpoint.every_steps"]
        assert wait_for(process, tmp_path / "run", saved), log_of(tmp_path / "run").read_text()
        yield tmp_path / "run", process


def refuse(run: Path, proven: Proven) -> None:
    """A second trainer ends with exit code 5, soon, and has touched nothing."""
    log = log_of(run).read_bytes()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert train(run, ENDLESS) == ExitCode.LOCKED
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert b"is in use by process" in log_of(run).read_bytes().removeprefix(log)
    # Of its core: other processes of this machine are not its fault.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds <= REFUSED_SECONDS
    proven("T7", seconds, "s of a core until refused")


def read(run: Path, process: subprocess.Popen[bytes], times: int, proven: Proven) -> None:
    """Opens the newest step again and again while it is replaced: so often, and until it was."""
    steps, deadline = [], time.monotonic() + PATIENCE_SECONDS
    while len(steps) < times or len(set(steps)) < 2:
        assert process.poll() is None, log_of(run).read_text()
        assert len(steps) < times or time.monotonic() < deadline, "nothing was replaced meanwhile"
        loaded = experiment.load(run)
        assert all(leaf.size for leaf in jax.tree.leaves(loaded.params))
        steps.append(loaded.step)
        proven("T7", 0, "failed reads")
    gc.collect()  # within this test
    assert steps == sorted(steps)


def test_a_second_trainer_is_refused_readers_are_not_and_kill_9_frees_the_run(
    busy: tuple[Path, subprocess.Popen[bytes]], proven: Proven
) -> None:
    run, process = busy
    refuse(run, proven)
    read(run, process, 20, proven)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reached = newest(run)
    assert train(run, {**ENDLESS, "train.steps": reached + 1}) == ExitCode.DONE
    assert newest(run) == reached + 1


@pytest.mark.sweep
@pytest.mark.parametrize("busy", [ENDLESS, HECTIC], ids=["usual", "hectic"], indirect=True)
def test_five_hundred_reads_meet_no_half_step(
    busy: tuple[Path, subprocess.Popen[bytes]], proven: Proven
) -> None:
    run, process = busy
    read(run, process, 500, proven)
    for _ in range(20):
        refuse(run, proven)
    assert process.poll() is None
