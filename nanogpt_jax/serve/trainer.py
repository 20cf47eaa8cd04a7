"""The process of a training run: how it is started, what its metrics say, why it failed.

It is the command that people train with, on the config that another run recorded. Nothing here
knows which run is served, or keeps a manifest.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from nanogpt_jax import checkpoint
from nanogpt_jax.errors import ExitCode
from nanogpt_jax.serve import recorded
from nanogpt_jax.serve.manifest import name_checkpoint

LOG = "process.log"
_LONGEST_ERROR = 500  # characters
_LAST_OUTPUT_BYTES = 1 << 16
# Generation comes first where both share the cores.
_NICENESS = 10
# The folders of an absolute path; an address such as hf://NAME has none.
_FOLDERS = re.compile(r"(?<![\w/.])/(?!/)(?:[^\s/:;,'\"]+/)+")

Overrides = Sequence[tuple[str, object]]
Launch = Callable[[Path, Path, Overrides], list[str]]


def command(config_of: Path, workdir: Path, overrides: Overrides) -> list[str]:
    """The command that trains in `workdir` with the config of another run and `overrides`."""
    words = [sys.executable, "-m", "nanogpt_jax.main", f"--workdir={workdir}"]
    words.append(f"--config={recorded.__file__}:{config_of}")
    if platforms := jax.config.values["jax_platforms"]:  # maybe a flag, which is not inherited
        words.append(f"--jax_platforms={platforms}")
    return words + [f"--config.{address}={value}" for address, value in overrides]


def device_refusal() -> str | None:
    """Why no second process fits onto the device, None where one does."""
    backend = jax.default_backend()
    if backend == "cpu":
        return None
    if backend != "gpu":
        return f"a {backend} belongs to one process at a time: train before or after serving"
    if os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") in ("0", "false", "False"):
        return None
    return (
        "the server has reserved the memory of its GPU: start it with "
        "XLA_PYTHON_CLIENT_PREALLOCATE=false to train beside it"
    )


class Trainer:
    """A process that trains in `workdir`, which is made for it; OSError when it cannot start."""

    def __init__(self, words: Sequence[str], workdir: Path, run_id: str):
        self.workdir = workdir
        self.stopping = False
        self._run_id = run_id
        self._read_bytes = 0  # of the metrics
        workdir.mkdir(parents=True)
        with open(workdir / LOG, "wb") as output:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the server, which passes it on
            )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)

    def wait(self, seconds: float) -> bool:
        """Whether the process has ended, at the latest after so long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Asks it to save and end; once, for a second signal would end it unsaved."""
        if not self.stopping:
            self.stopping = True
            # Not SIGINT, which a process may have inherited as ignored.
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once, and what it has started; nothing is saved."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def progress(self) -> dict[str, Any]:
        """What is new in the metrics, and the checkpoints there are, as a manifest has them."""
        # First, so that none is told of before the metrics that were written before it.
        steps = checkpoint.list_steps(self.workdir)
        found: dict[str, Any] = {}
        for line in self._new_lines():
            if "train/loss" in line:
                found["steps_completed"] = line["step"]
                found["training_loss"] = _finite(line["train/loss"])
            if "val/loss" in line:
                found["value_loss"] = _finite(line["val/loss"])
            if step_ms := _finite(line.get("perf/step_ms", "NaN")):
                found["steps_per_second"] = 1000 / step_ms
        return found | {"checkpoints": tuple(name_checkpoint(self._run_id, step) for step in steps)}

    def outcome(self) -> dict[str, Any]:
        """How it ended: `completed`, `interrupted`, or `failed` and why."""
        code = self._process.wait()
        # Asked to stop, it may be done first, or still be starting and know no better than to die.
        if code == ExitCode.INTERRUPTED or (self.stopping and code <= ExitCode.DONE):
            return {"status": "interrupted"}
        return {"status": "completed"} if code == ExitCode.DONE else failed(self._last_words(code))

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        """Lines of metrics that are whole and not read yet."""
        try:
            with open(self.workdir / "metrics.jsonl", "rb") as file:
                file.seek(self._read_bytes)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._read_bytes += len(line)
                    yield json.loads(line)
        except FileNotFoundError:
            return

    def _last_words(self, code: int) -> str:
        """The errors that the process has printed, or what its exit code tells."""
        log = self.workdir / LOG
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_OUTPUT_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return "; ".join(errors) or f"the process ended with {ended}; its {LOG} says more"


def failed(message: str) -> dict[str, Any]:
    """The entries of a failed run: why, on one line and without the folders of this machine."""
    shown = " ".join(_FOLDERS.sub("", message).split())
    return {"status": "failed", "error": shown[:_LONGEST_ERROR]}


def _finite(value: float | str) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
