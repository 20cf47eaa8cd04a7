"""Trials as jobs of Slurm, submitted with submitit; preempted or out of time, they queue again.

A trial's run saves when it is told to end, so a job that is queued again goes on. Jobs outlive
their controller: the next one finds them by the number in their directory. Whether a job is alive
is asked of squeue, because not every cluster keeps the accounts that submitit asks.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError
from submitit.helpers import DelayedSubmission

from nanogpt_jax.errors import ConfigError, ExitCode
from nanogpt_jax.sweep.launching import LOG, Job, Task

FOLDER = "slurm"  # of a job's own files, in its run directory
NUMBER = "job"
# Slurm kills what has not ended half a minute after it was told to.
ENDING_SECONDS = 60.0
SIGNAL_DELAY_SECONDS = 120  # before its time is over, in which the run is saved
WIDTH = 64


class Command:
    """What runs in a job: the command of a trial. Asked to end, it saves first."""

    def __init__(self, words: Sequence[str], workdir: Path):
        self._words, self._workdir = list(words), workdir

    def __call__(self) -> int:
        with open(self._workdir / LOG, "ab") as output:
            self._process = subprocess.Popen(self._words, stdout=output, stderr=output)
            code = self._process.wait()
        if code == ExitCode.INTERRUPTED:  # the job is about to be killed, or to be queued again
            time.sleep(ENDING_SECONDS)
        return code

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit in the job when its time is taken away: what is to run next time."""
        self._process.terminate()
        self._process.wait()
        return DelayedSubmission(Command(self._words, self._workdir))


class SlurmJob:
    """A trial in the queue, or running."""

    def __init__(self, job: submitit.Job[int]):
        self.number = job.job_id
        self._job = job
        self._stopping = False

    def poll(self) -> int | None:
        alive = is_alive(self.number)  # asked first: a job leaves its result before it is gone
        if self._job.paths.result_pickle.exists():
            try:
                return self._job.result()
            except (FailedJobError, UncompletedJobError):
                return ExitCode.FAILED
        if alive:
            return None
        return ExitCode.INTERRUPTED if self._stopping else ExitCode.FAILED

    def stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            subprocess.run(["scancel", self.number], check=False)


class Slurm:
    """Submits trials with `options` of sbatch as submitit spells them, such as timeout_min."""

    def __init__(self, width: int, options: Mapping[str, Any]):
        self.width = width or WIDTH
        self._options = {
            "job_name": "trial",
            "timeout_min": 60,
            "signal_delay_s": SIGNAL_DELAY_SECONDS,
            **options,
        }

    def start(self, task: Task) -> Job:
        folder = task.workdir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        held = folder / NUMBER
        if held.exists() and is_alive(number := held.read_text().strip()):
            return SlurmJob(submitit.SlurmJob(folder, number))
        executor = submitit.SlurmExecutor(folder=folder)
        try:
            executor.update_parameters(**self._renamed())
        except ValueError as error:
            raise ConfigError(f"--slurm: {error}") from error
        job = executor.submit(Command(task.words, task.workdir))
        held.write_text(job.job_id)
        return SlurmJob(job)

    def close(self) -> None:
        """Nothing ends: the queue goes on without its controller, and the next one finds it."""

    def _renamed(self) -> dict[str, Any]:
        """submitit's own executor of Slurm says `time` where the general one says `timeout_min`."""
        options = dict(self._options)
        options["time"] = options.pop("timeout_min")
        return options


def is_alive(number: str) -> bool:
    """Whether Slurm still holds a job: pending, running, or on its way to either."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={number}"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return bool(asked.stdout.strip())
