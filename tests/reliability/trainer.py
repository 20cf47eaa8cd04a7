"""The main job as a user starts it: a process of its own, on one core, in a group of its own.

What makes a resume hard is on: dropout, accumulation, shuffled documents that wait to be packed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanogpt_jax.checkpoint import list_steps
from tests.runs import lines_of, own_core

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = {
    "data.format": "packed",
    "data.window": "shuffled",
    "data.stories": 60,
    "model.dropout": 0.1,
    "train.accumulate_steps": 2,
    "train.steps": 60,
    "log.every_steps": 1,
    "eval.every_steps": 0,
    "eval.batches": 1,
    "eval.samples": 0,
    "checkpoint.every_steps": 10,
    "checkpoint.keep": 2,
    "checkpoint.milestones": 0,
}
PATIENCE_SECONDS = 600.0
MAIN = ("-m", "nanogpt_jax.main")
# Whoever looks from outside may look too late: it has its whole group killed at a line of its own.
KILLED = """
import os, signal, sys
from nanogpt_jax import cli, main
from nanogpt_jax.metrics.jsonl import JsonLines

last, *sys.argv[1:] = sys.argv[1:]
updates = JsonLines.updates

def killed(writer, step, *rest):
    updates(writer, step, *rest)
    if step >= int(last):
        os.killpg(0, signal.SIGKILL)

JsonLines.updates = killed
cli.run(main.main, main.__doc__)
"""


@contextmanager
def started(
    workdir: Path,
    changes: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    main: Sequence[str] = MAIN,
) -> Iterator[subprocess.Popen[bytes]]:
    """Training in `workdir`, its log appended to `<workdir>.log`; whatever is left of it is killed.

    What it tokenizes is kept beside the directory, for the next process.
    """
    cache = {"JAX_PLATFORMS": "cpu", "NANOGPT_CACHE": str(workdir.parent / "tokens")}
    command = ["taskset", "-c", str(own_core()), sys.executable, *main]
    command += ["--config=configs/tiny.py", f"--workdir={workdir}"]
    values = {**OPTIONS, **(changes or {})}
    command += [f"--config.{name}={value}" for name, value in values.items()]
    with log_of(workdir).open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **cache, **(environment or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def log_of(workdir: Path) -> Path:
    """Where all that was printed lies."""
    return workdir.with_name(f"{workdir.name}.log")


def train(workdir: Path, changes: Mapping[str, Any] | None = None, **options: Any) -> int:
    """Trains to the end, and returns the exit code."""
    with started(workdir, changes, **options) as process:
        return process.wait(PATIENCE_SECONDS)


def wait_for(process: subprocess.Popen[bytes], workdir: Path, step: int) -> bool:
    """Whether the run has come to `step`; it does not when it ends before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if last_step(workdir) >= step:
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    raise AssertionError(f"step {step} was not reached:\n{log_of(workdir).read_text()}")


def last_step(workdir: Path) -> int:
    """The last step that metrics.jsonl tells of, in whole lines; -1 before there is one."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return -1
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    *_, last = (b'{"step": -1}\n' + whole).splitlines()
    return json.loads(last)["step"]


def told(workdir: Path, name: str) -> dict[int, Any]:
    """The last value of `name` that metrics.jsonl has for each step."""
    return {line["step"]: line[name] for line in lines_of(workdir) if name in line}


def newest(workdir: Path) -> int:
    """The newest listed step, 0 before there is one."""
    return max(list_steps(workdir), default=0)
