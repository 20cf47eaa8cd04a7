"""The two rounds of a sweep with fresh seeds: what chose a rate does not also judge by it.

Whoever compares arms at rates that were chosen on the same seeds compares luck too: the best of
three is better than it will be again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from nanogpt_jax.sweep.space import Point
from nanogpt_jax.sweep.spec import SEED, Ended, Sweep


def tuning(ended: Iterable[Ended]) -> list[Ended]:
    """The trials of the first round."""
    return [each for each in ended if SEED not in each.trial.point]


def arm_of(sweep: Sweep, point: Point) -> Point:
    """What a point compares: all of it but seed and tuned fields."""
    return {name: each for name, each in point.items() if name not in (*sweep.tuned, SEED)}


def winners(sweep: Sweep, ended: Iterable[Ended]) -> list[Point]:
    """The best point of each arm, in the order in which arms came; none where all have failed."""
    sign = 1 if sweep.direction == "minimize" else -1
    best: dict[str, tuple[float, Point]] = {}
    for trial, value, pruned in tuning(ended):
        if value is None or pruned:
            continue
        arm = json.dumps(arm_of(sweep, trial.point), sort_keys=True)
        if arm not in best or sign * value < best[arm][0]:
            best[arm] = sign * value, trial.point
    return [point for _, point in best.values()]


def judging(sweep: Sweep, ended: Sequence[Ended]) -> list[Ended]:
    """The trials of the second round, at the rates that are the best by now: a grid may grow."""
    best = winners(sweep, ended)
    return [
        each
        for each in ended
        if SEED in each.trial.point
        and {name: value for name, value in each.trial.point.items() if name != SEED} in best
    ]


def confirmations(sweep: Sweep, ended: Iterable[Ended]) -> Iterator[Point]:
    """The points of the second round, seed by seed."""
    points = winners(sweep, ended)
    for seed in sweep.fresh_seeds:
        for point in points:
            yield {**point, SEED: seed}
