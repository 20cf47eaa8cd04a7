"""How a checkpoint comes to be listed: it appears at once, complete, or not at all.

A step is written under a name that is never taken for a step, its sidecar last, and renamed. So a
directory named like a step that holds a sidecar is complete; every other name is none of ours and
is left alone. This file knows names and order, not what a checkpoint holds. One process writes at a
time (lock.py); any number may read.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

SIDECAR = "metadata.json"
_UNFINISHED = "tmp."  # what Orbax writes on its way to such a name begins with it, too


def root_of(directory: Path) -> Path:
    """The absolute folder that holds the checkpoints of a run directory."""
    return directory.absolute() / "checkpoints"


def path_of(directory: Path, step: int) -> Path:
    """The folder of one checkpoint, whether it exists or not."""
    return root_of(directory) / str(step)


def list_steps(directory: Path) -> list[int]:
    """The steps of the complete checkpoints of a run directory, oldest first."""
    return sorted(int(entry.name) for entry in _steps(directory) if _is_complete(entry))


def list_incomplete(directory: Path) -> list[int]:
    """The steps of the folders that are named like a checkpoint and are none, oldest first."""
    return sorted(int(entry.name) for entry in _steps(directory) if not _is_complete(entry))


def _steps(directory: Path) -> list[Path]:
    entries = _entries(root_of(directory))
    return [entry for entry in entries if re.fullmatch("0|[1-9][0-9]*", entry.name)]


def _is_complete(step: Path) -> bool:
    return not step.is_symlink() and (step / SIDECAR).is_file()


def _entries(root: Path) -> list[Path]:
    return list(root.iterdir()) if root.is_dir() else []


def publish(directory: Path, step: int, write: Callable[[Path], None], sidecar: str) -> None:
    """Lists `step` with what `write` makes at the path that it is given, and `sidecar`.

    A complete checkpoint of this step is replaced; anything else of that name is put aside.
    """
    root = root_of(directory)
    root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    try:
        unfinished = root / f"{_UNFINISHED}{step}"
        write(unfinished)
        (unfinished / SIDECAR).write_text(sidecar, encoding="utf-8")
        final = root / str(step)
        if _is_complete(final):
            withdraw(directory, step)
        elif os.path.lexists(final):
            final.rename(_free_name(final))
        unfinished.rename(final)
    finally:
        remove_leftovers(directory)


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.bad{number or ''}") for number in itertools.count())
    return next(name for name in names if not os.path.lexists(name))


def withdraw(directory: Path, step: int) -> None:
    """Takes a checkpoint off the list at once; `remove_leftovers` frees its space."""
    root = root_of(directory)
    (root / str(step)).rename(root / f"{_UNFINISHED}{step}.withdrawn")


def remove_leftovers(directory: Path) -> None:
    """Removes what crashed saves and removals have left; only the process that trains may."""
    for entry in _entries(root_of(directory)):
        if entry.name.startswith(_UNFINISHED):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
