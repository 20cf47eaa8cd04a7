"""Runs on several processes of this machine, which meet over loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 600.0
SMALL = {
    "data.stories": 400,
    "model.n_layer": 1,
    "train.batch_size": 8,
    "eval.batches": 1,
    "eval.samples": 0,
    "checkpoint.milestones": 0,
}


def command(workdir: Path, changes: Mapping[str, object]) -> list[str]:
    """The command of a small run of configs/tiny.py."""
    return [
        *(sys.executable, "-m", "nanogpt_jax.main"),
        *("--config=configs/tiny.py", f"--workdir={workdir}"),
        *(f"--config.{name}={value}" for name, value in {**SMALL, **changes}.items()),
    ]


class Several:
    """The processes of one run; what each prints is in `workdir`.0.log, .1.log and so on."""

    def __init__(self, workdir: Path, changes: Mapping[str, object], count: int = 2):
        self.workdir = workdir
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.processes = [self._start(number, count, changes) for number in range(count)]

    def _start(self, number: int, count: int, changes: Mapping[str, object]) -> subprocess.Popen:
        words = [
            *command(self.workdir, changes),
            f"--coordinator=127.0.0.1:{self.port}",
            f"--num_processes={count}",
            f"--process_id={number}",
        ]
        with open(self.log(number), "wb") as log:
            return subprocess.Popen(
                words, cwd=REPOSITORY, stdout=log, stderr=log, process_group=0, env=os.environ
            )

    def log(self, number: int) -> Path:
        return self.workdir.with_suffix(f".{number}.log")

    def said(self, number: int) -> str:
        """What a process has printed."""
        return self.log(number).read_text(errors="replace")

    def codes(self, seconds: float = PATIENCE_SECONDS) -> list[int]:
        """The exit codes of all, which end in time."""
        deadline = time.monotonic() + seconds
        return [each.wait(max(deadline - time.monotonic(), 0.1)) for each in self.processes]

    def until_said(self, text: str, number: int = 0) -> None:
        """Waits for a process to print `text`."""
        self.until(lambda: text in self.said(number), number)

    def until(self, true: Callable[[], object], number: int = 0) -> None:
        """Waits for what a process does, which is still to end."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < deadline, self.said(number)
            assert self.processes[number].poll() is None, self.said(number)
            time.sleep(0.05)

    def __enter__(self) -> Several:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
