"""What trials say together: means over seeds, paired differences, and how sure they are.

Seeds are pairs: two arms that saw the same seed saw the same batches and the same first state, so
their difference varies less than either. All intervals are Student's, at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Mean(NamedTuple):
    """The mean of some measurements, their standard deviation, and the interval of the mean."""

    mean: float
    sd: float
    low: float
    high: float
    count: int


class Difference(NamedTuple):
    """Of pairs, second minus first: the mean, its interval, and the p-value of no difference."""

    mean: float
    low: float
    high: float
    p_value: float
    count: int

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of independent measurements; of a single one nothing is known of its spread."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Mean(mean, math.nan, -math.inf, math.inf, count)
    sd = float(np.std(values, ddof=1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * sd / math.sqrt(count)
    return Mean(mean, sd, mean - reach, mean + reach, count)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """The paired t-test over the seeds of both arms; ValueError where those are under two."""
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < 2:
        raise ValueError(f"found {len(seeds)} seeds in both arms; two or more are required")
    differences = [second[seed] - first[seed] for seed in seeds]
    spread = mean_of(differences)
    if spread.sd == 0:  # no test divides by this
        p_value = 1.0 if spread.mean == 0 else 0.0
    else:
        t = spread.mean / (spread.sd / math.sqrt(spread.count))
        p_value = 2 * float(stats.t.sf(abs(t), spread.count - 1))
    return Difference(spread.mean, spread.low, spread.high, p_value, len(seeds))
