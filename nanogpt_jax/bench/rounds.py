"""Rounds that take turns (A B A B ...), and what their times say.

Nothing here knows what is timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Two-sided 95 % quantile of the normal distribution.
NORMAL_95 = 1.96


class Ratio(NamedTuple):
    """How many times faster one thing is than another, with its 95 % interval."""

    value: float
    low: float
    high: float


def alternate(contenders: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """The seconds of every round of every contender; one round before all is not timed."""
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def speed_up(slow: ArrayLike, fast: ArrayLike) -> Ratio:
    """The geometric mean of slow / fast, round by round.

    Rounds of one number ran beside each other, so what slowed the machine slowed both. The
    interval is Student's, of the logarithms; one round has none.
    """
    logs = np.log(np.asarray(slow) / np.asarray(fast))
    count, mean = len(logs), float(logs.mean())
    if count < 2:
        return Ratio(math.exp(mean), 0.0, math.inf)
    wide = _student(count - 1) * float(logs.std(ddof=1)) / math.sqrt(count)
    return Ratio(math.exp(mean), math.exp(mean - wide), math.exp(mean + wide))


def _student(freedom: int) -> float:
    """Student's quantile beside NORMAL_95, to second order in 1 / freedom (Abramowitz 26.7.5)."""
    z = NORMAL_95
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2
