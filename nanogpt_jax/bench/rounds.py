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


class Estimate(NamedTuple):
    """A mean over rounds, with its 95 % interval."""

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


def mean(values: ArrayLike) -> Estimate:
    """The mean of rounds with Student's interval, which is without end for one round."""
    values = np.asarray(values, float)
    count, middle = len(values), float(values.mean())
    if count < 2:
        return Estimate(middle, -math.inf, math.inf)
    wide = _student(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(middle, middle - wide, middle + wide)


def speed_up(slow: ArrayLike, fast: ArrayLike) -> Estimate:
    """How many times faster: the geometric mean of slow / fast, round by round.

    Rounds of one number ran beside each other, so what slowed the machine slowed both.
    """
    logs = np.log(np.asarray(slow) / np.asarray(fast))
    return Estimate(*map(math.exp, mean(logs)))


def _student(freedom: int) -> float:
    """Student's quantile beside NORMAL_95, to second order in 1 / freedom (Abramowitz 26.7.5)."""
    z = NORMAL_95
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2
