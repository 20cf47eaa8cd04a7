"""SIGINT and SIGTERM: the first asks a run to save and end, a second at once ends it unsaved.

What "save and end" means is the loop's business. Python runs a handler only between two
instructions of the main thread, which may be minutes into a compilation, so the handler does no
more than set a flag; a thread that the signal itself wakes does what must not wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import IO

from absl import logging

from nanogpt_jax.errors import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_SECONDS = 2.0
# One wish may come as two signals: `timeout` sends its own to the process and then to its group.
_ECHO_SECONDS = 0.05


class Interrupt:
    """Holds the handlers of SIGINT and SIGTERM while it is entered.

    `requested` is True, and `signal` is set, from the first signal on. A second one within two
    seconds ends the process with `ExitCode.ABORTED`; a later one counts as a first again.
    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self):
        self.requested = False
        self.signal: signal.Signals | None = None
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            arrivals, wakeup = os.pipe()
            os.set_blocking(wakeup, False)
            watcher = threading.Thread(target=_watch, args=(arrivals,), daemon=True)
            watcher.start()
            self._undo.callback(watcher.join)
            self._undo.callback(os.close, wakeup)
            self._undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wakeup))
            for number in _SIGNALS:
                # None stands for a handler of C code, which Python cannot put back.
                previous = signal.signal(number, self._request) or signal.SIG_DFL
                self._undo.callback(signal.signal, number, previous)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.signal = signal.Signals(number)


def _watch(arrivals: int) -> None:
    """Answers the signals that arrive at a file descriptor until its other end closes."""
    with open(arrivals, "rb", buffering=0) as numbers:
        answer(numbers)


def answer(numbers: IO[bytes], clock: Callable[[], float] = time.monotonic) -> None:
    """Says of each signal, one byte with its number, what it does; a second one ends the process.

    `clock` is read when a signal arrives and when it has been answered.
    """
    answered_seconds = -float("inf")
    while byte := numbers.read(1):
        waited_seconds = clock() - answered_seconds
        if byte[0] not in _SIGNALS or waited_seconds < _ECHO_SECONDS:
            continue
        if waited_seconds <= _PATIENCE_SECONDS:
            os._exit(ExitCode.ABORTED)  # no log line is lost: each is flushed when written
        logging.warning(
            "%s: finishing the step and saving; a second signal within two seconds stops at once "
            "without saving",
            signal.Signals(byte[0]).name,
        )
        answered_seconds = clock()
