"""Trials as processes of this machine, each on devices or cores of its own.

GPUs are dealt out one to a trial; without any, the cores that this process may use are, so that
trials do not take each other's time. A trial of the last controller that still runs is waited for:
its directory is locked until it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.sweep.launching import LOG, Task

PATIENCE_SECONDS = 60.0


class Process:
    """A task as a process, whose output goes to its directory."""

    def __init__(self, task: Task, cores: Sequence[int], variables: dict[str, str]):
        task.workdir.mkdir(parents=True, exist_ok=True)
        with open(task.workdir / LOG, "ab") as output:
            self._process = subprocess.Popen(
                task.words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | variables,
                start_new_session=True,  # Ctrl-C is for the controller, which passes it on
            )
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.sched_setaffinity(self._process.pid, cores)
        self._stopping = False

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        if not self._stopping and self._process.poll() is None:
            self._stopping = True
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Until it has ended; after so long it is killed."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Local:
    """Up to `width` processes; 0: one for each GPU, or a single one on all cores."""

    def __init__(self, width: int = 0, gpus: Sequence[str] | None = None):
        self._gpus = list(find_gpus() if gpus is None else gpus)
        self._cores = sorted(os.sched_getaffinity(0))
        self.width = width or max(len(self._gpus), 1)
        room = len(self._gpus) or len(self._cores)
        if self.width > room:
            what = "GPUs" if self._gpus else "cores"
            raise ConfigError(
                f"--parallel={self.width} trials at once on {room} {what}: at most one on each"
            )
        self._places: list[Process | None] = [None] * self.width

    def start(self, task: Task) -> Process:
        place = next(n for n, held in enumerate(self._places) if held is None or _ended(held))
        variables = {}
        if self._gpus:
            variables["CUDA_VISIBLE_DEVICES"] = self._gpus[place]
        process = Process(task, self._share(place), variables)
        self._places[place] = process
        return process

    def close(self) -> None:
        left = [each for each in self._places if each is not None and not _ended(each)]
        for process in left:
            process.stop()
        for process in left:
            process.wait(PATIENCE_SECONDS)

    def _share(self, place: int) -> list[int]:
        """The cores of a place: as even a share as there is."""
        return self._cores[place * len(self._cores) // self.width :][
            : max(len(self._cores) // self.width, 1)
        ]


def _ended(process: Process) -> bool:
    return process.poll() is not None


def find_gpus() -> list[str]:
    """The GPUs that a process may use, by their numbers; no backend is started to ask."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [each for each in visible.split(",") if each]
    return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
