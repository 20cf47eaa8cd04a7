"""A run that no longer moves ends with what it was doing; and no end leaves anything behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import Checkpoints
from nanogpt_jax.errors import ExitCode
from nanogpt_jax.watchdog import Watchdog
from tests.runs import small_run

HANG_SECONDS = 2.0  # longer than others keep this machine from a thread that wakes up
HANGING = """
import hashlib, os, signal, sys, time
from pathlib import Path
from nanogpt_jax.watchdog import Watchdog

def stop_moving():
    print("stopped", flush=True)
    if sys.argv[2] == "in C":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    if sys.argv[2] == "suspended":
        os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        time.sleep(0.01)
        if sys.argv[2] == "suspended":
            print("tick", flush=True)

with Watchdog(float(sys.argv[3]), Path(sys.argv[1])) as watchdog:
    for step in range(40):
        watchdog.beat(step)
        time.sleep(0.06)  # all in all longer than it waits
    if sys.argv[2] == "reader gone":
        sys.stderr.write("x" * 2**16)  # as much as a pipe takes
    stop_moving()
"""


def hanging(log: Path, manner: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HANGING, str(log), manner, str(HANG_SECONDS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("manner", ["in Python", "in C"])
def test_stacks_go_to_stderr_and_the_log_and_the_process_ends(manner: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    with hanging(tmp_path / "log", manner) as process:
        _, told = process.communicate(timeout=20)
    assert process.returncode == ExitCode.STALLED
    first, *stacks = told.splitlines()
    assert first.startswith("no sign of life for 2 seconds after step 39 (train.hang_seconds)")
    assert any("in stop_moving" in line for line in stacks)
    assert sum(line.startswith(("Thread 0x", "Current thread")) for line in stacks) >= 2
    assert (tmp_path / "log").read_text() == f"before\n{told}"


@pytest.mark.slow
def test_a_log_and_a_reader_that_hang_do_not_hold_the_end_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")  # opening it waits for a reader
    with hanging(tmp_path / "log", "reader gone") as process:
        assert process.wait(timeout=20) == ExitCode.STALLED


@pytest.mark.slow
def test_the_time_in_which_a_process_is_stopped_does_not_count(tmp_path: Path) -> None:
    with hanging(tmp_path / "log", "suspended") as process:
        told = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert told is not None and told.si_code == os.CLD_STOPPED
        time.sleep(1.25 * HANG_SECONDS)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == ExitCode.STALLED
    assert said.startswith("stopped\n")
    # Each is 10 ms after the last: it has lived for half a second more, by its own clock.
    assert said.count("tick\n") > 50


def test_it_ends_with_its_block_and_never_begins_for_no_seconds(tmp_path: Path) -> None:
    before = threading.active_count()
    with Watchdog(1000.0, tmp_path / "log") as watchdog:
        assert threading.active_count() == before + 1
        watchdog.beat(1)
    with pytest.raises(KeyError), Watchdog(1000.0, tmp_path / "log"):
        raise KeyError
    assert threading.active_count() == before
    with Watchdog(0.0, tmp_path / "log") as watchdog:
        assert threading.active_count() == before
        watchdog.beat(1)
    assert not (tmp_path / "log").exists()


def test_a_beat_costs_less_than_a_thousandth_of_the_shortest_step(tmp_path: Path) -> None:
    with Watchdog(1000.0, tmp_path / "log") as watchdog:
        began = time.thread_time()
        for step in range(10_000):
            watchdog.beat(step)
        seconds = (time.thread_time() - began) / 10_000
    assert seconds < 5e-6


# What an end leaves behind.


def held() -> dict[str, set[str]]:
    """What this process holds, as the kernel tells: open files and children."""
    gc.collect()  # an error and the frames that it came through hold each other
    files = Path("/proc/self/fd")
    targets = {os.readlink(one) for one in files.iterdir() if os.path.lexists(one)}
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "files": {target for target in targets if not target.startswith("/proc/")},
        "children": set(children),
    }


def shared_memory() -> set[str]:
    """The names in /dev/shm, which is the machine's, but for those that a stranger holds.

    What nobody holds counts: who made it has ended, or closed it, and left its name.
    """
    names = set(os.listdir("/dev/shm"))
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if not is_ours(process):
                names -= held_by(process)
    return names & set(os.listdir("/dev/shm"))  # strangers remove theirs meanwhile


def is_ours(process: Path) -> bool:
    """Whether that is this process, or one of those that it started, which have its cache."""
    mark = f"NANOGPT_CACHE={os.environ['NANOGPT_CACHE']}\0".encode()
    return process.name == str(os.getpid()) or mark in (process / "environ").read_bytes()


def held_by(process: Path) -> set[str]:
    """The names in /dev/shm that a process has open or mapped: first open, then mapped."""
    paths = []
    for one in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            paths.append(os.readlink(one))
    paths += [line.split(maxsplit=5)[-1] for line in (process / "maps").read_text().splitlines()]
    return {Path(path).parts[3] for path in paths if path.startswith("/dev/shm/")}


def ours() -> set[str]:
    """The threads that Python knows; XLA keeps its own, one pool for all runs."""
    return {thread.name for thread in threading.enumerate()}


class Ended(Exception):
    """How a run fails in these tests."""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize("end", ["done", "interrupted", "failed", "non-finite"])
def test_a_run_leaves_no_thread_file_child_or_shared_memory(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"data.prefetch": 2, "train.steps": 4, "eval.every_steps": 0}
    small_run(tmp_path / "first", changes)  # what is opened once stays
    files, threads, shared = held(), ours(), shared_memory()
    save = Checkpoints.save

    def ending(checkpoints: Any, step: int, *state: Any, **more: Any) -> None:
        save(checkpoints, step, *state, **more)
        if end == "interrupted" and step == 2:  # a second signal would end this very process
            signal.raise_signal(signal.SIGTERM)
        elif end == "failed":
            raise Ended
        elif end == "non-finite":
            raise errors.NonFinite("a test")

    monkeypatch.setattr(Checkpoints, "save", ending)
    raised = {"interrupted": errors.Interrupted, "failed": Ended, "non-finite": errors.NonFinite}
    if end == "done":
        small_run(tmp_path / "run", changes)
    else:
        with pytest.raises(raised[end]):
            small_run(tmp_path / "run", changes)
    assert ours() <= threads and held() == files and shared_memory() <= shared


STALLING = """
import os, sys, time
from pathlib import Path
from nanogpt_jax.report import Report
from tests.runs import small_run

measure = Report.flush
def stall(self):
    if self._step:
        print("stalls", flush=True)
        time.sleep(1000)
    measure(self)
Report.flush = stall
# Longer than the update takes to compile, beside whatever else goes on.
small_run(Path(sys.argv[1]), {"train.hang_seconds": 10, "data.prefetch": 2})
"""


@pytest.mark.slow
def test_a_stalled_run_ends_with_code_7_its_group_is_empty_and_the_run_goes_on(
    tmp_path: Path,
) -> None:
    shared = shared_memory()
    ended = subprocess.run(
        [sys.executable, "-c", STALLING, str(tmp_path / "run")],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=600,
        process_group=0,
    )
    assert ended.returncode == ExitCode.STALLED, ended.stderr
    assert "stalls" in ended.stdout and "no sign of life for 10 seconds after step" in ended.stderr
    log = (tmp_path / "run/train.log").read_text()
    assert "in stall" in log and "in stall" in ended.stderr
    assert shared_memory() <= shared
    assert small_run(tmp_path / "run")
