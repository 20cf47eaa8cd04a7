"""SIGINT and SIGTERM: the first asks a run to save and end, a second at once ends it unsaved.

What "save and end" means is the loop's business. While there is nothing to save, a command ends at
its first signal. Python runs a handler only between two instructions of the main thread, which may
be minutes into a compilation, so the handler does no more than set a flag; a thread that the signal
itself wakes does what must not wait.
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

from nanogpt_jax.errors import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_SECONDS = 2.0
# One wish may come as two signals: `timeout` sends its own to the process and then to its group.
_ECHO_SECONDS = 0.05


def end_at_signals() -> None:
    """From now on a signal ends this process with `ExitCode.INTERRUPTED`: it has nothing to save.

    For a command, before it imports what takes seconds to import.
    """
    for number in _SIGNALS:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(ExitCode.INTERRUPTED)  # an exception might be caught by what is being imported


class Interrupt:
    """Holds the handlers of SIGINT and SIGTERM while it is entered.

    `requested` is True, and `signal` is set, from the first signal on. A second one within two
    seconds ends the process with `ExitCode.ABORTED`; a later one counts as a first again.
    Until `protect` is called, the first ends a process that has called `end_at_signals`.
    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self):
        self.requested = False
        self.signal: signal.Signals | None = None
        self._may_end = False
        self._undo = contextlib.ExitStack()

    def asks(self, step: int) -> bool:
        """Whether the run should save and end at `step`; to be read once at each."""
        del step
        return self.requested

    def protect(self) -> None:
        """From now on there is something to save."""
        self._may_end = False

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            arrivals, wakeup = os.pipe()
            os.set_blocking(wakeup, False)
            self._may_end = all(signal.getsignal(number) is _end for number in _SIGNALS)
            watcher = threading.Thread(target=self._watch, args=(arrivals,), daemon=True)
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

    def _watch(self, arrivals: int) -> None:
        """Answers the signals that arrive at a file descriptor until its other end closes."""
        with open(arrivals, "rb", buffering=0) as numbers:
            answer(numbers, may_end=lambda: self._may_end)


def answer(
    numbers: IO[bytes],
    clock: Callable[[], float] = time.monotonic,
    may_end: Callable[[], bool] = lambda: False,
) -> None:
    """Says of each signal, one byte with its number, what it does; a second one ends the process.

    So does a first one while it `may_end`. `clock` is read when a signal arrives and when it has
    been answered.
    """
    from absl import logging  # here: a command has its handlers before it imports anything

    answered_seconds = -float("inf")
    while byte := numbers.read(1):
        waited_seconds = clock() - answered_seconds
        if byte[0] not in _SIGNALS or waited_seconds < _ECHO_SECONDS:
            continue
        if waited_seconds <= _PATIENCE_SECONDS:
            os._exit(ExitCode.ABORTED)  # no log line is lost: each is flushed when written
        if may_end():
            logging.warning("%s: nothing is unsaved; ending", signal.Signals(byte[0]).name)
            os._exit(ExitCode.INTERRUPTED)
        logging.warning(
            "%s: finishing the step and saving; a second signal within two seconds stops at once "
            "without saving",
            signal.Signals(byte[0]).name,
        )
        answered_seconds = clock()
