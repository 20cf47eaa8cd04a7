"""What a run directory holds, for everybody who does not train in it: nothing here writes.

A step is verified where it is chosen, once: what is loaded then is not looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from absl import logging

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import declared, inventory, sidecar
from nanogpt_jax.checkpoint.commit import (
    SIDECAR,
    list_names,
    list_set_aside,
    list_steps,
    path_of,
    root_of,
)
from nanogpt_jax.checkpoint.retention import by_loss
from nanogpt_jax.checkpoint.sidecar import Sidecar
from nanogpt_jax.interface import Params
from nanogpt_jax.state import TrainState


def read_sidecar(directory: Path, step: int) -> Sidecar:
    """The sidecar of one checkpoint; errors.NoCheckpoint if there is none, or it is damaged."""
    try:
        return _read(directory, step)
    except FileNotFoundError as error:
        raise errors.NoCheckpoint(_nothing_for(directory, str(step))) from error


def read_sidecars(directory: Path) -> list[Sidecar]:
    """The sidecars of all checkpoints, oldest first.

    One that is pruned meanwhile is left out, and so is a damaged one: it counts for nothing.
    """
    found = []
    for step in list_steps(directory):
        try:
            found.append(_read(directory, step))
        except (FileNotFoundError, errors.Damaged):
            continue
    return found


def require_full(directory: Path, step: int) -> int:
    """`step`, if it holds all that training needs to go on; errors.NoCheckpoint otherwise."""
    if not read_sidecar(directory, step).full:
        raise errors.NoCheckpoint(_nothing_for(directory, str(step), full=True))
    return step


def verify(directory: Path, step: int) -> None:
    """Reads a checkpoint whole; its files must be those that were saved, and plausible.

    Raises errors.Damaged naming the first bad file and what is wrong with it, and
    errors.NoCheckpoint where nothing bears the name of that step.
    """
    try:
        _verified(directory, step)
    except FileNotFoundError as error:
        raise errors.NoCheckpoint(_nothing_for(directory, str(step))) from error


def _verified(directory: Path, step: int) -> Sidecar:
    """The sidecar of a checkpoint that is whole; FileNotFoundError if it is gone."""
    path = path_of(directory, step)
    before = path.lstat().st_ino
    try:
        found = _read(directory, step)
        difference = inventory.find_difference(path, found.files, beside=SIDECAR)
        if difference := difference or declared.find_excess(path, found):
            raise errors.Damaged(path, step, *difference)
    except errors.Damaged as error:
        if path.lstat().st_ino != before:  # a trainer has replaced it, or lstat says it is gone
            raise FileNotFoundError(path) from error
        raise
    return found


def _read(directory: Path, step: int) -> Sidecar:
    path = path_of(directory, step)
    path.lstat()  # FileNotFoundError where the step is gone, and not its sidecar alone
    try:
        if path.is_symlink() or not path.is_dir():
            raise ValueError("a link or file is in the place of its folder")
        found = sidecar.read(path / SIDECAR)
        if found.step != step:
            raise ValueError(f"step is {found.step}, {step} is required")
    except (OSError, ValueError) as error:
        path.lstat()
        raise errors.Damaged(path, step, SIDECAR, inventory.explain(error)) from error
    return found


def warn(error: errors.Damaged) -> None:
    """Says that a checkpoint is passed over."""
    logging.warning("checkpoint %d is passed over: %s", error.step, error)


def newest_full_step(
    directory: Path, on_damage: Callable[[errors.Damaged], object] = warn
) -> int | None:
    """The step that training goes on from, verified, or None before the first full save.

    Newer ones that are damaged are handed to `on_damage`. If no good one is left where there were
    some, that is errors.NoCheckpoint, never None.
    """
    damaged, gone = list[errors.Damaged](), False
    for step in reversed(list_names(directory)):
        try:
            if _read(directory, step).full and _verified(directory, step).full:
                for each in damaged:
                    on_damage(each)
                return step
        except errors.Damaged as error:
            damaged.append(error)
        except FileNotFoundError:
            gone = True
    if gone:
        return newest_full_step(directory, on_damage)
    if damaged or list_set_aside(directory):
        raise _none_left(directory, damaged)
    return None


def choose(directory: Path, which: str, *, full: bool = False) -> int:
    """The step that `--step=which` means: a number, `last` or `best` (lowest validation loss).

    With `full`, of those that hold all that training needs to go on. It is verified; `last` and
    `best` pass over what is damaged, with a warning. Raises errors.NoCheckpoint saying what was
    found, errors.ConfigError if `which` is none of the three.
    """
    candidates: Iterable[int]
    if which == "last":
        candidates = reversed(list_names(directory))
    elif which == "best":
        candidates = _best_first(directory)
    elif which.isascii() and which.isdecimal():
        candidates = [int(which)] if int(which) in list_names(directory) else []
    else:
        raise errors.ConfigError(f"--step={which!r}: a step, 'last' or 'best' is required")
    damaged, gone = list[errors.Damaged](), False
    for step in candidates:
        try:
            if not full or _read(directory, step).full:
                _verified(directory, step)
                for each in damaged:
                    warn(each)
                return step
            if which == "best":
                break
        except errors.Damaged as error:
            if which.isdecimal():
                raise
            damaged.append(error)
        except FileNotFoundError:
            gone = True
    if gone:  # pruned after it was listed, so there is a newer one
        return choose(directory, which, full=full)
    if damaged:
        raise _none_left(directory, damaged)
    raise errors.NoCheckpoint(_nothing_for(directory, which, full))


def _best_first(directory: Path) -> list[int]:
    """The steps that were measured, then those whose damage hides whether they were."""
    names, found = list_names(directory), read_sidecars(directory)
    hidden = {*names} - {one.step for one in found}
    return [*sorted(hidden), *by_loss(found)]


def _none_left(directory: Path, damaged: list[errors.Damaged]) -> errors.NoCheckpoint:
    aside = ", ".join(list_set_aside(directory))
    found = [f"{each.step} is damaged ({each.file}: {each.problem})" for each in damaged]
    found += [f"{aside} was set aside as damaged"] if aside else []
    return errors.NoCheckpoint(
        f"{root_of(directory)} has no usable checkpoint: {', '.join(found)}; put the files back, "
        "or start over with --fresh"
    )


def _nothing_for(directory: Path, which: str, full: bool = False) -> str:
    listed = list_steps(directory)
    if full:
        listed = [one.step for one in read_sidecars(directory) if one.full]
    found = f"found steps {', '.join(map(str, listed))}" if listed else "found none"
    remedy = "choose one of these" if listed else "train first, or name another run directory"
    kind = "full " if full else ""
    return f"{root_of(directory)} has no {kind}checkpoint for --step={which}: {found}; {remedy}"


def load_params(directory: Path, step: int, abstract_params: Params) -> Params:
    """The parameters alone, placed as `abstract_params` (arrays, or ShapeDtypeStructs) says.

    The step is one that `choose` gave. Raises errors.Mismatch if it is of another model.
    """
    from nanogpt_jax.checkpoint import items

    read_sidecar(directory, step)
    return items.read(path_of(directory, step), {"params": abstract_params})["params"]


def load_learned(directory: Path, step: int, abstract: TrainState) -> tuple[Params, Any]:
    """The parameters and the optimizer's state of a full checkpoint, placed as `abstract` says.

    The step is one that `choose` gave. Raises errors.Mismatch if it is of another model or
    optimizer.
    """
    from nanogpt_jax.checkpoint import items

    wanted = {"params": abstract.params, "opt_state": abstract.opt_state}
    found = items.read(path_of(directory, step), wanted)
    return found["params"], found["opt_state"]
