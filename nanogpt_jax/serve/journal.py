"""The server's log: one line for an event, whatever a client or a library puts into it.

`OneLine` formats every line of the process, so that text of a client cannot begin a line of its
own, colour a terminal or hide another line. What went wrong is told by where it went wrong; the
message of an unforeseen error is left out, because it may quote what a client wrote, and so are
paths of this machine. Where lines go and which are shown is the logging library's business.
"""

from __future__ import annotations

import logging
import threading
import traceback
from types import TracebackType

from absl import logging as absl_logging

ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def escape(text: str) -> str:
    """`text` with everything that is no visible character or space written as an escape.

    That is control characters (C0 and C1), separators of lines, marks of direction and lone
    surrogates. Escaping twice changes nothing.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def describe(error: BaseException) -> str:
    """The class of `error` and the places in the code that led there, the last one first."""
    places = [
        f"{frame.f_globals.get('__name__', '?')}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return " < ".join([type(error).__name__, *reversed(places)])


class OneLine(logging.Formatter):
    """`2026-01-31 12:00:00 WARNING message`, in one line."""

    default_msec_format = None

    def __init__(self):
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escape(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: ExceptionInfo) -> str:
        return describe(ei[1]) if ei[1] is not None else ""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`; the base class begins a line for the error, and one for a stack."""
        record.exc_text = record.stack_info = None
        return super().format(record).replace("\n", ": ")


def install() -> None:
    """Makes every line of this process's log one of `OneLine`, what ends a thread included."""
    absl_logging.set_verbosity(absl_logging.INFO)
    absl_logging.use_absl_handler()
    handler = absl_logging.get_absl_handler()
    if handler is not None:
        handler.setFormatter(OneLine())
    threading.excepthook = log_thread


def log_thread(failed: threading.ExceptHookArgs) -> None:
    """Tells what ended a thread; `threading.excepthook` would print its message and paths."""
    name = failed.thread.name if failed.thread else "?"
    if failed.exc_value is not None:
        absl_logging.error("the thread %s ended: %s", name, describe(failed.exc_value))
