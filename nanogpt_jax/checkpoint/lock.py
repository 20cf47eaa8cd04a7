"""One process trains in a run directory at a time; readers need no lock.

The system frees the lock with the process, however it ends, so nothing can be stale.

To ask whether somebody trains is to share the lock for a moment, if it is free. So who wants it and
finds it taken asks too: where it can be shared nobody trains, and he looks again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from nanogpt_jax import errors
from nanogpt_jax.checkpoint.strict import open_plain

NAME = "lock"
# Who asks holds it for microseconds, or as long as a busy machine lets him stand.
ASKED_SECONDS = 10.0
LOOK_SECONDS = 0.01


@contextlib.contextmanager
def lock_run(directory: Path) -> Iterator[None]:
    """Holds `<directory>/lock`; raises errors.Locked, soon, if another process does."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / NAME).open("a+", encoding="ascii") as file:
        try:
            _take(file)
        except BlockingIOError as error:
            raise _in_use(directory) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def require_free(directory: Path) -> None:
    """Raises errors.Locked where another process trains: to be refused before anything slow."""
    if is_locked(directory):
        raise _in_use(directory)


def is_locked(directory: Path) -> bool:
    """Whether some process trains in a run directory; it is not disturbed, nor is who will."""
    try:
        with open_plain(directory / NAME) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ValueError):  # no lock, or none of ours
        return False
    return False


def _in_use(directory: Path) -> errors.Locked:
    holder = (directory / NAME).read_text("ascii").strip() or "unknown"
    return errors.Locked(
        f"{directory} is in use by process {holder}: wait for it, stop it, or train in "
        "another directory"
    )


def _take(file: TextIO) -> None:
    """The lock, for this process alone; BlockingIOError where another one keeps it."""
    deadline = time.monotonic() + ASKED_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
        if time.monotonic() > deadline:
            raise BlockingIOError
        time.sleep(LOOK_SECONDS)
