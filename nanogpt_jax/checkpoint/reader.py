"""What a run directory holds, for everybody who does not train in it: nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import items
from nanogpt_jax.checkpoint.commit import SIDECAR, list_incomplete, list_steps, path_of, root_of
from nanogpt_jax.checkpoint.retention import best
from nanogpt_jax.checkpoint.sidecar import Sidecar, parse
from nanogpt_jax.interface import Params
from nanogpt_jax.state import TrainState

_LONGEST_SIDECAR_BYTES = 1 << 20


def read_sidecar(directory: Path, step: int) -> Sidecar:
    """The sidecar of one checkpoint; errors.NoCheckpoint if it is missing or damaged."""
    try:
        return _read(directory, step)
    except FileNotFoundError as error:
        message = _nothing_for(directory, str(step), list_steps(directory))
        raise errors.NoCheckpoint(message) from error


def read_sidecars(directory: Path) -> list[Sidecar]:
    """The sidecars of all checkpoints, oldest first; one that is pruned meanwhile is left out."""
    found = []
    for step in list_steps(directory):
        try:
            found.append(_read(directory, step))
        except FileNotFoundError:
            continue
    return found


def _read(directory: Path, step: int) -> Sidecar:
    path = path_of(directory, step) / SIDECAR
    try:
        with path.open(encoding="utf-8") as file:
            found = parse(file.read(_LONGEST_SIDECAR_BYTES))
        if found.step != step:
            raise ValueError(f"step is {found.step}, {step} is required")
    except ValueError as error:
        raise errors.NoCheckpoint(
            f"{path} is damaged: {error}; rename its folder to put it aside, and use another step"
        ) from error
    return found


def newest_full_step(directory: Path) -> int | None:
    """The step that training goes on from, or None before the first full save.

    What might be a full checkpoint and cannot be read is errors.NoCheckpoint, never None.
    """
    for step in reversed(list_steps(directory)):
        if read_sidecar(directory, step).full:
            return step
    if incomplete := list_incomplete(directory):
        raise errors.NoCheckpoint(
            f"{root_of(directory)} has no usable checkpoint: {', '.join(map(str, incomplete))} "
            f"lacks its {SIDECAR}; put that back, or start over with --fresh"
        )
    return None


def choose(directory: Path, which: str, *, full: bool = False) -> int:
    """The step that `--step=which` means: a number, `last` or `best` (lowest validation loss).

    With `full`, of those that hold all that training needs to go on. Raises errors.NoCheckpoint
    saying what was found, errors.ConfigError if `which` is none of the three.
    """
    listed = list_steps(directory)
    candidates: Iterable[int | None]
    if which == "last":
        candidates = reversed(listed)
    elif which == "best":
        candidates = [best(read_sidecars(directory))]
    elif which.isascii() and which.isdecimal():
        candidates = [int(which)] if int(which) in listed else []
    else:
        raise errors.ConfigError(f"--step={which!r}: a step, 'last' or 'best' is required")
    for step in candidates:
        if step is not None and (not full or read_sidecar(directory, step).full):
            return step
    if full:
        listed = [one.step for one in read_sidecars(directory) if one.full]
    raise errors.NoCheckpoint(_nothing_for(directory, which, listed, "full " if full else ""))


def _nothing_for(directory: Path, which: str, listed: list[int], full: str = "") -> str:
    found = f"found steps {', '.join(map(str, listed))}" if listed else "found none"
    remedy = "choose one of these" if listed else "train first, or name another run directory"
    return f"{root_of(directory)} has no {full}checkpoint for --step={which}: {found}; {remedy}"


def load_params(directory: Path, step: int, abstract_params: Params) -> Params:
    """The parameters alone, placed as `abstract_params` (arrays, or ShapeDtypeStructs) says.

    Raises errors.Mismatch if the checkpoint is of another model.
    """
    read_sidecar(directory, step)
    return items.read(path_of(directory, step), {"params": abstract_params})["params"]


def load_learned(directory: Path, step: int, abstract: TrainState) -> tuple[Params, Any]:
    """The parameters and the optimizer's state of a full checkpoint, placed as `abstract` says.

    Raises errors.Mismatch if it is of another model or optimizer.
    """
    wanted = {"params": abstract.params, "opt_state": abstract.opt_state}
    found = items.read(path_of(directory, step), wanted)
    return found["params"], found["opt_state"]
