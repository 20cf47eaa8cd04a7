"""Trials as managed jobs of SkyPilot; whose machine is taken away gets another and goes on.

The `sky` command does all of it, in the version that is installed: SkyPilot's packages and ours do
not go together in one environment. Run directories are kept in a bucket, from which the metrics
are copied here. Jobs outlive their controller: the next one finds them by their names.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from nanogpt_jax.cloud import machines, skypilot
from nanogpt_jax.errors import ExitCode, NanogptError
from nanogpt_jax.sweep.launching import Job, Task

WIDTH = 8  # machines that cost; who wants more says so
POLL_SECONDS = 30.0  # between two looks at the queue and the bucket
IDLE = "No in-progress managed jobs"
FILE = "task.yaml"  # of a trial, in its directory here
# Of SkyPilot's states those in which a job has ended; the others are all on the way.
ENDED = {"SUCCEEDED": ExitCode.DONE, "CANCELLED": ExitCode.INTERRUPTED} | dict.fromkeys(
    "FAILED FAILED_SETUP FAILED_PRECHECKS FAILED_NO_RESOURCE FAILED_CONTROLLER".split(),
    ExitCode.FAILED,
)
# What copies the metrics of all trials, and nothing else of them, from a bucket.
COPY = {
    "gs": ("gcloud", "storage", "rsync", "--recursive", r"--exclude=^(?!.*metrics\.jsonl$)"),
    "s3": ("aws", "s3", "sync", "--exclude=*", "--include=*metrics.jsonl"),
}


class SkyJob:
    """A trial in SkyPilot's queue, or running on one of its machines."""

    def __init__(self, launcher: SkyPilot, number: int):
        self.number = number
        self._launcher = launcher
        self._stopping = False

    def poll(self) -> int | None:
        state = self._launcher.state_of(self.number)
        if state == "CANCELLED" and not self._stopping:
            return ExitCode.FAILED  # by hand: not to be started again
        return ENDED.get(state)

    def stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            call("jobs", "cancel", "-y", "--graceful", str(self.number))


class SkyPilot:
    """Launches trials with `options`: `storage`, the rest as SkyPilot's resources spell it."""

    def __init__(
        self,
        width: int,
        options: Mapping[str, Any],
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.width = width or WIDTH
        self._clock = clock
        self._resources = dict(options)
        self._storage = str(self._resources.pop("storage", ""))
        self._bucket, self._mount = skypilot.split_storage(self._storage)
        for program in ("sky", COPY[self._storage[:2]][0]):
            if shutil.which(program) is None:
                raise NanogptError(
                    f"found no program {program} on PATH, required by --launcher=skypilot with "
                    f"storage={self._storage}: install it apart from this environment "
                    "(SkyPilot: uv tool install skypilot), or use --launcher=print"
                )
        self._states: dict[int, str] = {}
        self._looked: float | None = None
        self._folder: Path | None = None

    def start(self, task: Task) -> Job:
        sweep = task.workdir.parents[1]
        name = f"{machines.label(sweep.name)}-{zlib.crc32(self._storage.encode()):08x}"
        name = f"{name}-{task.number:04d}"
        self._folder, self._looked = task.workdir.parent, None
        task.workdir.mkdir(parents=True, exist_ok=True)
        file = task.workdir / FILE
        file.write_text(
            skypilot.task(
                name,
                shipped(task),
                kept=f"{self._mount}/{sweep.name}/trials/{task.workdir.name}",
                root=machines.checkout(),
                bucket=self._bucket,
                resources=self._resources,
            )
        )
        # A controller that was killed has left its jobs: one may be this, and may have succeeded.
        number = newest(name, worth=True)
        if number is None:
            call("jobs", "launch", "-y", "-d", "-n", name, str(file))
            number = newest(name)
        if number is None:
            raise NanogptError(f"sky jobs launch gave no job {name}: see sky jobs queue")
        self._states[number] = "PENDING"
        return SkyJob(self, number)

    def close(self) -> None:
        """Nothing ends: the jobs go on without their controller, and the next one finds them."""

    def state_of(self, number: int) -> str:
        """The state of a job as the last look found it; a look is taken every half minute."""
        now = self._clock()
        if self._looked is None or now >= self._looked + POLL_SECONDS:
            try:
                records = queue() or queue("--refresh")
                self._copy_metrics()  # after the queue: whoever has ended has written all
            except NanogptError as error:  # a network that is away for a while ends no trial
                logging.warning("asking again in %.0f s: %s", POLL_SECONDS, error)
            else:
                self._states = {each["job_id"]: each["status"] for each in records}
            self._looked = now
        return self._states.get(number, "FAILED")  # by now it is unknown to the queue

    def _copy_metrics(self) -> None:
        if self._folder is not None:
            source = self._mount.removeprefix(machines.RUNS)
            source = f"{self._bucket}{source}/{self._folder.parent.name}/trials"
            run([*COPY[self._storage[:2]], source, str(self._folder)])


def shipped(task: Task) -> list[str]:
    """The command of a task in a copy of the repository, without its run directory here."""
    words = ["python"]
    for word in task.words[1:]:
        name, equals, value = word.partition("=")
        if name == "--config" and equals:
            word = f"--config={machines.shipped(value)}"
        if name != "--workdir":
            words.append(word)
    return words


def queue(*words: str) -> list[dict[str, Any]]:
    """All of the user's jobs, as `sky jobs queue` of SkyPilot 0.14 tells them.

    None where the machine that keeps the queue is off, as it is before the first job and when all
    have ended; `--refresh` starts it to ask how.
    """
    try:
        told = call("jobs", "queue", "--all", "--output=json", *words)
    except NanogptError as error:
        if IDLE in str(error):
            return []
        raise
    found = re.search(r"^\[(?:\]|$)", told, re.MULTILINE)  # after what else it may say
    if found is None:
        raise NanogptError(f"found no list in what sky jobs queue told: {told[:200]!r}")
    return json.loads(told[found.start() :])


def newest(name: str, *, worth: bool = False) -> int | None:
    """The number of the last job of that name; where so asked, unless it has ended in vain."""
    found = {each["job_id"]: each["status"] for each in queue() if each["job_name"] == name}
    number = max(found, default=None)
    if number is None or (worth and ENDED.get(found[number], ExitCode.DONE) != ExitCode.DONE):
        return None
    return number


def call(*words: str) -> str:
    """What `sky` prints; NanogptError with the end of it where it fails."""
    return run(["sky", *words])


def run(words: Sequence[str]) -> str:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()[-500:]
        raise NanogptError(f"{' '.join(words[:3])} ended with code {done.returncode}: {said}")
    return done.stdout
