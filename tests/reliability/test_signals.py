"""Real processes, real signals: what is ended goes on as if nothing had happened, or is refused.

Each process takes seconds to import and compile, so they are few, and each row says several things.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest

from nanogpt_jax import checkpoint
from nanogpt_jax.checkpoint import digest_step, list_steps, read_sidecar
from nanogpt_jax.errors import ExitCode
from tests.reliability.conftest import Proven
from tests.runs import lines_of, own_core, steps_of

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


PATIENCE_SECONDS = 600

# The main command, which sends itself a signal at the N-th call of a function, and may wait then;
# or soon after it has begun to compile its update.
SIGNALLING = """
import logging, os, signal, sys, threading, time
from nanogpt_jax import interrupt

if __name__ == "__main__":
    interrupt.end_at_signals()

from nanogpt_jax import cli, main
from nanogpt_jax.checkpoint import items
from nanogpt_jax.data.pipeline import Batches
from nanogpt_jax.data.store import encoding
from nanogpt_jax.evaluation import Evaluator

encoding.INLINE_CHUNKS, encoding.count_cores = 0, lambda: 2
MOMENTS = {
    "tokenizing": (encoding._Worker, "receive", 1),
    "step": (Batches, "__next__", 5),
    "evaluation": (Evaluator, "measure", 2),
    "save": (items, "write", 1),
    "last save": (items, "write", 3),
}
moment, number, target, seconds, *sys.argv[1:] = sys.argv[1:]
if float(seconds):  # a second one will come: however late it is no echo, and no first one again
    interrupt._ECHO_SECONDS, interrupt._PATIENCE_SECONDS = 0, 600

def send():
    os.kill(0 if target == "group" else os.getpid(), int(number))

def send_meanwhile():
    began = time.process_time()
    while time.process_time() < began + 0.5:  # of its work on this, by then in C code
        time.sleep(0.01)
    print("worked", sum(os.times()[:4]), file=sys.stderr, flush=True)
    send()

class Compiling(logging.Handler):
    def emit(self, record):
        if "Finished jaxpr to MLIR module conversion jit(train_step)" in record.getMessage():
            threading.Thread(target=send_meanwhile, daemon=True).start()

if moment == "compilation":
    logging.getLogger("jax").addHandler(Compiling())
else:
    owner, name, left = MOMENTS[moment]
    called = getattr(owner, name)

    def signalled(*arguments):
        global left
        left -= 1
        if left == 0:
            send()
            time.sleep(float(seconds))
        return called(*arguments)

    setattr(owner, name, signalled)
cli.run(main.main, main.__doc__)
"""
# Saves after the updates 4, 8 and 10, evaluations after 0, 5 and 10.
SHORT = {"train.steps": 10, "checkpoint.every_steps": 4, "eval.every_steps": 5}
MAIN = ("-m", "nanogpt_jax.main")


def signalling(
    moment: str, number: signal.Signals, target: str = "process", seconds: float = 0.0
) -> tuple[str, ...]:
    """The words after `python` that train, and send that signal at that moment."""
    return ("-c", SIGNALLING, moment, str(int(number)), target, str(seconds))


@contextlib.contextmanager
def started(
    workdir: Path,
    changes: dict[str, int] | None = None,
    programs: str = "",
    command: Sequence[str] = MAIN,
) -> Iterator[subprocess.Popen[str]]:
    """The main job on one core; it waits when its log is more than a page ahead of its reader.

    What it tokenizes is kept beside it, and what it compiles where all tests keep it, unless the
    folder `programs` beside it is asked for.
    """
    cache = {"NANOGPT_CACHE": str(workdir.parent / "tokens")}
    if programs:
        cache["JAX_COMPILATION_CACHE_DIR"] = str(workdir.parent / programs)
    process = subprocess.Popen(
        [
            *("taskset", "-c", str(own_core()), sys.executable, *command),
            *("--config=configs/tiny.py", f"--workdir={workdir}"),
            *(f"--config.{name}={value}" for name, value in (OPTIONS | (changes or {})).items()),
        ],
        cwd=REPOSITORY,
        env=os.environ | cache | {"JAX_PLATFORMS": "cpu", "JAX_LOG_COMPILES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
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
        text, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == ExitCode.DONE, log
        assert len(text.strip()) > 10, "a sample"
    with started(broken) as process:
        read_until(process.stderr, "step=53/")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == ExitCode.INTERRUPTED, log
        assert "interrupted and saved at step" in log
    (parent / "interrupted.json").write_text(json.dumps(list_steps(broken)))
    with started(broken) as process:
        assert process.communicate(timeout=PATIENCE_SECONDS)[0] == text
        assert process.returncode == ExitCode.DONE
    return {"unbroken": unbroken, "broken": broken}


@pytest.mark.slow
def test_an_interrupted_and_resumed_run_has_the_digest_of_an_unbroken_one(
    runs: dict[str, Path], proven: Proven
) -> None:
    *earlier, stopped = json.loads((runs["broken"].parent / "interrupted.json").read_text())
    assert earlier == [40] and 53 <= stopped < STEPS
    assert read_sidecar(runs["broken"], stopped).interrupted
    assert list_steps(runs["unbroken"]) == [40, 80, 100]
    assert list_steps(runs["broken"]) == sorted({40, stopped, 80, 100})
    for step in (40, 80, STEPS):
        assert digest_step(runs["broken"], step) == digest_step(runs["unbroken"], step), step
    assert digest_step(runs["unbroken"], 80) != digest_step(runs["unbroken"], STEPS)
    proven("T5", 0, "steps lost")


def test_no_step_is_missing_or_repeated_in_the_metrics_of_a_resumed_run(
    runs: dict[str, Path],
) -> None:
    resumed = [line["step"] for line in lines_of(runs["broken"]) if line.get("event") == "resume"]
    assert len(resumed) == 1 and resumed[0] not in (0, STEPS)
    assert [line for line in lines_of(runs["unbroken"]) if line.get("event") == "resume"] == []
    for name in ("train/loss", "val/loss"):
        told = {
            key: [(line["step"], line[name]) for line in lines_of(path) if name in line]
            for key, path in runs.items()
        }
        assert told["broken"] == told["unbroken"], name
    assert steps_of(runs["broken"], "train/loss") == list(range(1, STEPS + 1))
    assert steps_of(runs["broken"], "val/loss") == [0, 25, 50, 75, 100]


def test_a_second_signal_ends_the_process_and_nothing_is_saved_by_it(
    runs: dict[str, Path], proven: Proven
) -> None:
    run = runs["broken"]
    before = {step: digest_step(run, step) for step in list_steps(run)}
    # The save that it is then in the middle of lasts until the second one comes.
    command = signalling("save", signal.SIGTERM, seconds=60)
    with started(run, {"train.steps": 10 * STEPS}, command=command) as process:
        read_until(process.stderr, f"resuming from step {STEPS}")
        read_until(process.stderr, "a second signal within two seconds stops at once")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == ExitCode.ABORTED
        proven("T5", time.monotonic() - began, "s from the second signal to the end")
    assert {step: digest_step(run, step) for step in list_steps(run)} == before
    assert len(before) == 4


def worked_seconds() -> float:
    """What processes that have ended, of those that this one started, have had of the cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_for_handlers(process: subprocess.Popen[str]) -> None:
    """Returns as soon as the process catches SIGTERM."""
    status, caught = Path(f"/proc/{process.pid}/status"), 0
    while not caught >> (signal.SIGTERM - 1) & 1:
        (mask,) = [line for line in status.read_text().splitlines() if line.startswith("SigCgt:")]
        caught = int(mask.split()[1], 16)


def left_of(workdir: Path) -> list[str]:
    """The processes that use the cache beside a run directory."""
    mark, found = f"NANOGPT_CACHE={workdir.parent / 'tokens'}\0".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_jax_is_imported_ends_the_process_quietly(
    number: signal.Signals, tmp_path: Path, proven: Proven
) -> None:
    with started(tmp_path / "run") as process:
        wait_for_handlers(process)
        process.send_signal(number)
        text, log = process.communicate(timeout=10)
    assert (process.returncode, text, log) == (ExitCode.INTERRUPTED, "", "")
    assert not (tmp_path / "run").exists()
    proven("T5", 0, "steps lost")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_first_compilation_ends_the_process_at_once(
    number: signal.Signals, tmp_path: Path, proven: Proven
) -> None:
    command, before = signalling("compilation", number), worked_seconds()
    with started(tmp_path / "run", programs="none", command=command) as process:
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Finished XLA compilation of jit(train_step)" not in log
    # Compiling works all the time, for seconds: who waited for its end would have worked on.
    (then,) = (line.split()[1] for line in log.splitlines() if line.startswith("worked "))
    assert worked_seconds() - before - float(then) < 1
    assert f"{number.name}: nothing is unsaved; ending" in log
    proven("T5", 0, "steps lost")
    assert list_steps(tmp_path / "run") == [] and left_of(tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize("target", ["process", "group"])
@pytest.mark.parametrize(
    ("moment", "number", "steps"),
    [
        ("tokenizing", signal.SIGTERM, []),
        ("step", signal.SIGINT, [4, 5]),
        ("evaluation", signal.SIGTERM, [4, 6]),
        ("save", signal.SIGINT, [4]),  # and a step or two beyond: the save goes on beside them
        ("last save", signal.SIGTERM, [4, 8, 10]),
    ],
)
def test_a_signal_at_any_moment_ends_the_run_with_its_last_step_saved(
    moment: str,
    number: signal.Signals,
    steps: list[int],
    target: str,
    tmp_path: Path,
    proven: Proven,
) -> None:
    run = tmp_path / "run"
    with started(run, SHORT, command=signalling(moment, number, target)) as process:
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == ExitCode.INTERRUPTED, log
    deadline = time.monotonic() + 5
    while (left := left_of(run)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == [], "who tokenizes ends with the process that asked for it"
    saved = list_steps(run)
    assert saved == steps or (moment == "save" and saved[:-1] == steps)
    if saved:
        assert steps_of(run, "train/loss")[-1] == saved[-1]
    with started(run, SHORT) as process:
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == ExitCode.DONE, log
    assert steps_of(run, "train/loss") == list(range(1, 11))
    proven("T5", 0, "steps lost")


def test_a_second_process_in_a_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    with checkpoint.lock_run(tmp_path / "run"), started(tmp_path / "run") as process:
        text, log = process.communicate(timeout=60)
    assert process.returncode == ExitCode.LOCKED
    assert log.startswith("error: ") and f"in use by process {os.getpid()}" in log
    assert len(log.splitlines()) == 1 and text == ""
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]
