"""One process trains in a run directory at a time; readers need no lock.

The system frees the lock with the process, however it ends, so nothing can be stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from nanogpt_jax import errors


@contextlib.contextmanager
def lock_run(directory: Path) -> Iterator[None]:
    """Holds `<directory>/lock`; raises errors.Locked at once if another process does."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise errors.Locked(
                f"{directory} is in use by process {holder}: wait for it, stop it, or train in "
                "another directory"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
