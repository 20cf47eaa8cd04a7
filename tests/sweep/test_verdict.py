"""Means, intervals and paired tests, held to scipy and to what must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nanogpt_jax.sweep.verdict import mean_of, paired


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        spread = mean_of(list(draw.normal(3.0, 2.0, size=4)))
        held += spread.low <= 3.0 <= spread.high
    assert 0.935 < held / 2000 < 0.965


def test_a_paired_difference_is_that_of_scipy() -> None:
    first = {0: 1.00, 1: 1.10, 2: 0.95, 3: 1.20}
    second = {0: 0.97, 1: 1.06, 2: 0.94, 3: 1.15, 9: 5.0}  # seed 9 has no pair
    found = paired(first, second)
    wanted = stats.ttest_rel([second[s] for s in range(4)], [first[s] for s in range(4)])
    assert found.p_value == pytest.approx(wanted[1])
    assert found.mean == pytest.approx(-0.0325) and found.count == 4
    assert found.told_apart and found.high < 0


def test_pairs_tell_apart_what_means_alone_do_not() -> None:
    noise = [0.0, 1.0, -1.0, 2.0]
    first = dict(enumerate(noise))
    second = {seed: value + 0.1 + 0.001 * seed for seed, value in first.items()}
    assert paired(first, second).told_apart
    apart = mean_of(list(second.values()))
    assert apart.low < mean_of(noise).mean < apart.high


def test_one_seed_is_no_evidence() -> None:
    alone = mean_of([1.0])
    assert math.isnan(alone.sd) and alone.low == -math.inf
    with pytest.raises(ValueError, match="found 1 seeds"):
        paired({0: 1.0, 1: 2.0}, {0: 1.0})


def test_equal_arms_are_not_told_apart() -> None:
    same = {0: 1.0, 1: 2.0, 2: 3.0}
    found = paired(same, same)
    assert found.p_value == 1.0 and not found.told_apart
