"""Which steps are kept as milestones, which checkpoint is the best, and which may go.

Pure functions of numbers and sidecars; nothing here touches a file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nanogpt_jax.checkpoint.sidecar import Sidecar


def milestone_steps(total_steps: int, count: int) -> tuple[int, ...]:
    """About `count` steps from 0 to `total_steps`, evenly spaced in their logarithm."""
    if count == 0:
        return ()
    spaced = (round(total_steps ** (index / (count - 2))) for index in range(count - 2))
    return tuple(sorted({0, *(min(step, total_steps) for step in spaced), total_steps}))


def by_loss(sidecars: Sequence[Sidecar]) -> list[int]:
    """The steps whose validation loss was measured, the lowest first."""
    losses = {one.step: one.validation_loss for one in sidecars}
    return [step for _, step in sorted((loss, s) for s, loss in losses.items() if loss is not None)]


def best(sidecars: Sequence[Sidecar]) -> int | None:
    """The step with the lowest validation loss, or None if none was measured."""
    return next(iter(by_loss(sidecars)), None)


def prunable(sidecars: Sequence[Sidecar], keep: int, milestones: Collection[int]) -> list[int]:
    """The steps of the periodic saves that are neither among the newest `keep`, nor pinned.

    A milestone, the best, the final and an interrupted save are pinned, and so is the newest full
    save: what a run goes on from.
    """
    periodic = sorted(
        one.step for one in sidecars if one.kind == "periodic" and not one.interrupted
    )
    newest = max((one.step for one in sidecars if one.full), default=None)
    pinned = {best(sidecars), newest, *milestones}
    return [step for step in periodic[: max(len(periodic) - keep, 0)] if step not in pinned]
