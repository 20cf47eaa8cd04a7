"""How a checkpoint comes to be listed: it appears at once, complete, or not at all.

A step is written under a name that is never taken for a step, its sidecar last, and renamed once
all of it is on the device. So a folder named like a step holds a sidecar, unless it is damaged;
every name that is none of ours is left alone. This file knows names and order, not what a
checkpoint holds. One process writes at a time (lock.py); any number may read.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from absl import logging

from nanogpt_jax.checkpoint import inventory
from nanogpt_jax.checkpoint.inventory import Mark

SIDECAR = "metadata.json"
_STEP = "0|[1-9][0-9]{0,15}"
_UNFINISHED = "tmp."  # what Orbax writes on its way to such a name begins with it, too
_DAMAGED = ".bad"


def root_of(directory: Path) -> Path:
    """The absolute folder that holds the checkpoints of a run directory."""
    return directory.absolute() / "checkpoints"


def path_of(directory: Path, step: int) -> Path:
    """The folder of one checkpoint, whether it exists or not."""
    return root_of(directory) / str(step)


def list_steps(directory: Path) -> list[int]:
    """The steps of the complete checkpoints of a run directory, oldest first."""
    return [step for step in list_names(directory) if _is_complete(path_of(directory, step))]


def list_names(directory: Path) -> list[int]:
    """Every step whose name is taken, oldest first: by a checkpoint, or by what it has become."""
    names = (entry.name for entry in _entries(root_of(directory)))
    return sorted(int(name) for name in names if re.fullmatch(_STEP, name))


def list_set_aside(directory: Path) -> list[str]:
    """The names of the checkpoints that were set aside as damaged."""
    pattern = rf"({_STEP}){re.escape(_DAMAGED)}[0-9]*"
    return sorted(
        entry.name for entry in _entries(root_of(directory)) if re.fullmatch(pattern, entry.name)
    )


def _is_complete(step: Path) -> bool:
    return not step.is_symlink() and (step / SIDECAR).is_file()


def _entries(root: Path) -> list[Path]:
    return list(root.iterdir()) if root.is_dir() else []


def publish(
    directory: Path,
    step: int,
    write: Callable[[Path], None],
    sidecar: Callable[[Mapping[str, Mark]], str],
) -> None:
    """Lists `step` with what `write` makes at the path that it is given, and the text of `sidecar`.

    That is asked for once the files are on the device, and told what they are. A complete
    checkpoint of this step is replaced; anything else of that name is put aside.
    """
    root = root_of(directory)
    root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    try:
        unfinished = _unfinished(root, step)
        write(unfinished)
        text = sidecar(inventory.take(unfinished))
        (unfinished / SIDECAR).write_text(text, encoding="utf-8")
        inventory.sync(unfinished / SIDECAR)
        inventory.sync(unfinished)
        final = root / str(step)
        if _is_complete(final):
            withdraw(directory, step)
        elif os.path.lexists(final):
            set_aside(directory, step)
        unfinished.rename(final)
        inventory.sync(root)
    finally:
        remove_leftovers(directory)


def _unfinished(root: Path, step: int) -> Path:
    """A path that nothing bears, and nothing that Orbax made on its way to one."""
    taken = [entry.name for entry in _entries(root)]
    names = (
        f"{_UNFINISHED}{step}{'.' * (number > 0)}{number or ''}" for number in itertools.count()
    )
    return root / next(name for name in names if not any(one.startswith(name) for one in taken))


def set_aside(directory: Path, step: int) -> Path:
    """Takes what bears the name of a step off the list, and keeps it under the returned name."""
    path = path_of(directory, step)
    names = (path.with_name(f"{step}{_DAMAGED}{number or ''}") for number in itertools.count())
    aside = path.rename(next(name for name in names if not os.path.lexists(name)))
    inventory.sync(aside.parent)
    return aside


def withdraw(directory: Path, step: int) -> None:
    """Takes a checkpoint off the list at once; `remove_leftovers` frees its space."""
    root = root_of(directory)
    (root / str(step)).rename(_unfinished(root, step))
    inventory.sync(root)


def remove_leftovers(directory: Path) -> None:
    """Removes what crashed saves and removals have left; only the process that trains may.

    What cannot be removed is told, and is in nobody's way.
    """
    root = root_of(directory)
    for entry in _entries(root):
        if entry.name.startswith(_UNFINISHED):
            try:
                _remove(entry)
            except OSError as error:
                logging.warning("%s stays behind: %s", entry, inventory.explain(error))


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
