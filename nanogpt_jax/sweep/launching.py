"""How trials run: the form of every launcher, and the command that each trial is.

A trial is the command that people train with, in a directory of its own, so that whatever ends it,
the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from nanogpt_jax.sweep.spec import Sweep, Trial

LOG = "process.log"


class Task(NamedTuple):
    """One trial as a process: the words of its command, and its run directory."""

    number: int
    words: Sequence[str]
    workdir: Path


class Job(Protocol):
    """A task under way."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        ...

    def stop(self) -> None:
        """Asks it to save and end; `poll` says when it has."""
        ...


class Launcher(Protocol):
    """Where tasks run; `width` of them at once."""

    width: int

    def start(self, task: Task) -> Job:
        """Runs a task, or puts it where it will run."""
        ...

    def close(self) -> None:
        """Ends what still runs, saved."""
        ...


def task_of(sweep: Sweep, trial: Trial, folder: Path, python: str = sys.executable) -> Task:
    """The task of a trial; its run directory is `folder`/trials/NNNN."""
    workdir = workdir_of(folder, trial.number)
    words = [python, "-m", "nanogpt_jax.main", f"--config={sweep.config}", f"--workdir={workdir}"]
    words += [f"--config.{name}={text}" for name, text in sweep.changes(trial.point)]
    return Task(trial.number, words, workdir)


def workdir_of(folder: Path, number: int) -> Path:
    """Where a trial lies."""
    return folder / "trials" / f"{number:04d}"
