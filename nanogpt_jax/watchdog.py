"""Ends a run that no longer moves: stacks of all threads to stderr and a file, and exit code 7.

It counts steps and knows nothing of them. The time in which the process itself was stopped, as by
Ctrl-Z or a scheduler that suspends jobs, does not count. A main thread that waits in C code is
seen; one that holds Python's lock for ever in there is not.
"""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from nanogpt_jax.errors import ExitCode

_LOOKS = 20  # for signs of life, in the time after which there should have been one
_WRITING_SECONDS = 2.0


class Watchdog:
    """Ends the process with `ExitCode.STALLED` once `hang_seconds` pass without a `beat`.

    It watches while it is entered; 0 seconds: never. What it has to say is appended to `log`.
    """

    def __init__(self, hang_seconds: float, log: Path):
        self._hang_seconds = hang_seconds
        self._log = log
        self._step = 0
        self._beats = 0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, step: int) -> None:
        """The run moves: it stands at state `step`."""
        self._step = step
        self._beats += 1

    def __enter__(self) -> Self:
        if self._hang_seconds:
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._hang_seconds:
            self._watcher.join()

    def _watch(self) -> None:
        seen, idle_looks = self._beats, 0
        # Looks are counted, not time: a process that was stopped has not looked meanwhile.
        while not self._over.wait(self._hang_seconds / _LOOKS):
            idle_looks = idle_looks + 1 if self._beats == seen else 0
            seen = self._beats
            if idle_looks >= _LOOKS:
                self._end()

    def _end(self) -> None:
        """Writes what is known, as far as that can still be written, and ends the process."""
        message = (
            f"no sign of life for {self._hang_seconds:g} seconds after step {self._step} "
            "(train.hang_seconds); the same command goes on from the newest checkpoint.\n"
        )
        report = message.encode() + _stacks()
        # What hangs may be a file system, or the reader of stderr: neither must hold this one up.
        writers = [
            threading.Thread(target=write, args=(report,), daemon=True)
            for write in (_write_to_stderr, self._write_to_log)
        ]
        for writer in writers:
            writer.start()
        deadline = time.monotonic() + _WRITING_SECONDS
        for writer in writers:
            writer.join(max(0.0, deadline - time.monotonic()))
        os._exit(ExitCode.STALLED)

    def _write_to_log(self, report: bytes) -> None:
        with open(self._log, "ab") as file:
            file.write(report)


def _write_to_stderr(report: bytes) -> None:
    with open(2, "wb", closefd=False) as file:  # 2: whatever sys.stderr has become
        file.write(report)


def _stacks() -> bytes:
    """The stacks of all threads, by way of a file of our own: dumping holds Python's lock."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
