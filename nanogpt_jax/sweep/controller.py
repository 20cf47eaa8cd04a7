"""Keeps trials coming and going until a sweep is done; killed, the same command goes on.

All it remembers is in the study and in the run directories: a trial that the study says is under
way is started again, and its run goes on where it was saved.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from absl import logging

from nanogpt_jax.checkpoint import is_locked
from nanogpt_jax.errors import ExitCode, Interrupted
from nanogpt_jax.interrupt import Interrupt
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.sweep.launching import Job, Launcher, task_of, workdir_of
from nanogpt_jax.sweep.spec import Sweep, Trial
from nanogpt_jax.sweep.study import Study

# Of exit codes: whoever is started again may do better.
AGAIN = (ExitCode.LOCKED, ExitCode.STALLED, ExitCode.INTERRUPTED, ExitCode.ABORTED)
MOST_STARTS = 3


class Held:
    """A trial that a process of the last controller still trains; it is waited for."""

    def __init__(self, workdir: Path):
        self._workdir = workdir

    def poll(self) -> int | None:
        return None if is_locked(self._workdir) else ExitCode.LOCKED

    def stop(self) -> None:
        """Not our process to stop: the next start in its directory will be."""


class Controller:
    """One sweep in `folder`, its trials run by `launcher`."""

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        study: Study,
        launcher: Launcher,
        *,
        poll_seconds: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._sweep, self._folder, self._study, self._launcher = sweep, folder, study, launcher
        self._poll_seconds, self._sleep = poll_seconds, sleep
        self._jobs: dict[int, tuple[Trial, Job]] = {}
        self._starts: dict[int, int] = {}
        self._reported: dict[int, int] = {}  # the step of the newest value told
        self._pruned: set[int] = set()

    def run(self) -> None:
        """Until all trials have ended; Interrupted, all of them saved, after a signal."""
        waiting = self._study.under_way()
        if waiting:
            logging.info("going on with %d trials that were under way", len(waiting))
        with Interrupt() as interrupt:
            interrupt.protect()
            try:
                while not interrupt.requested:
                    while len(self._jobs) < self._launcher.width:
                        trial = waiting.pop(0) if waiting else self._study.next()
                        if trial is None:
                            break
                        self._start(trial)
                    if not self._jobs:
                        return
                    self._sleep(self._poll_seconds)
                    for trial, job in list(self._jobs.values()):
                        self._look(trial, job)
            finally:
                self._launcher.close()
        raise Interrupted("the trials under way are saved; the same command goes on with them")

    def _start(self, trial: Trial) -> None:
        self._starts[trial.number] = self._starts.get(trial.number, 0) + 1
        told = " ".join(f"{name}={value}" for name, value in trial.point.items())
        logging.info("trial %d: %s", trial.number, told)
        task = task_of(self._sweep, trial, self._folder)
        self._jobs[trial.number] = trial, self._launcher.start(task)

    def _look(self, trial: Trial, job: Job) -> None:
        """Tells the study what is new of a trial, and ends it where that says so."""
        code = job.poll()
        values = objectives(self._folder, self._sweep, trial.number)
        for step, value in sorted(values.items()):
            if step > self._reported.get(trial.number, -1):
                self._reported[trial.number] = step
                if self._study.report(trial.number, step, value):
                    self._pruned.add(trial.number)
        if code is None:
            if trial.number in self._pruned:
                job.stop()
            return
        del self._jobs[trial.number]
        workdir = workdir_of(self._folder, trial.number)
        if code == ExitCode.LOCKED and is_locked(workdir):  # not its fault: no start is counted
            self._starts[trial.number] -= 1
            self._jobs[trial.number] = trial, Held(workdir)
            return
        pruned = trial.number in self._pruned and code == ExitCode.INTERRUPTED
        if not pruned and code in AGAIN and self._starts[trial.number] < MOST_STARTS:
            self._start(trial)
            return
        value = values[max(values)] if values and code == ExitCode.DONE else None
        self._study.tell(trial.number, value, pruned=pruned)
        how = "pruned" if pruned else f"exit code {code}" if value is None else f"{value:.4f}"
        logging.info("trial %d ends: %s", trial.number, how)


def objectives(folder: Path, sweep: Sweep, number: int) -> dict[int, float]:
    """The objective of a trial by step, as far as it has been measured."""
    path = workdir_of(folder, number) / "metrics.jsonl"
    if not path.exists():
        return {}
    measured = read_metrics(path)
    return {
        step: values[sweep.objective]
        for step, values in measured.items()
        if sweep.objective in values
    }
