"""Every schedule stays within its bounds, and has the values that a hand computes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.optim import schedules

STEPS = np.arange(600)
NAMES = list(schedules)


@functools.cache
def compiled(name: str) -> Any:
    """The schedule over all of STEPS, its numbers traced."""
    return jax.jit(lambda numbers: jax.vmap(lambda step: schedules[name](step, **numbers))(STEPS))


def factors(name: str, **numbers: float) -> np.ndarray:
    return np.asarray(compiled(name)(jax.tree.map(np.float32, numbers)))


@st.composite
def numbers(draw: Any, name: str) -> dict[str, float]:
    total = draw(st.integers(1, 500))
    values: dict[str, float] = {"total_steps": total}
    ranges = {
        "warmup_steps": st.integers(0, total - 1),
        "min_ratio": st.floats(0, 1, width=32),
        "decay_fraction": st.floats(0, 1, width=32),
    }
    for field in schedules.fields(name):
        values[field] = draw(ranges[field])
    return values


def test_the_registry_knows_the_five_schedules() -> None:
    known = ["constant", "linear", "warmup_cosine", "warmup_linear", "warmup_stable_decay"]
    assert known == NAMES


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_a_schedule_lies_between_0_and_1_moves_at_once_and_reaches_1(name: str, data: Any) -> None:
    chosen = data.draw(numbers(name))
    running = factors(name, **chosen)[: int(chosen["total_steps"])]
    assert running[0] > 0
    assert running.min() >= 0
    assert running.max() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_a_schedule_stays_at_its_minimum_after_its_end(name: str, data: Any) -> None:
    chosen = data.draw(numbers(name))
    after = factors(name, **chosen)[int(chosen["total_steps"]) :]
    np.testing.assert_allclose(after, chosen["min_ratio"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if "warmup" in name])
def test_a_run_shorter_than_its_warm_up_still_ends_at_the_minimum(name: str) -> None:
    values = factors(name, total_steps=20, warmup_steps=100, min_ratio=0.1)
    np.testing.assert_allclose(values[:20], (np.arange(20) + 1) / 100, rtol=1e-5)
    np.testing.assert_allclose(values[20:], 0.1, rtol=1e-6)


def test_only_schedules_called_warmup_warm_up() -> None:
    warming = {name for name in schedules if "warmup_steps" in schedules.fields(name)}
    assert warming == {name for name in schedules if name.startswith("warmup")}
    assert all("min_ratio" in schedules.fields(name) for name in schedules)


@pytest.mark.parametrize(
    ("name", "numbers", "expected"),
    [
        ("constant", {"total_steps": 10, "min_ratio": 0.5}, {0: 1, 9: 1, 10: 0.5, 99: 0.5}),
        (
            "linear",
            {"total_steps": 100, "min_ratio": 0.2},
            {0: 1, 25: 0.8, 50: 0.6, 100: 0.2, 150: 0.2},
        ),
        (
            "warmup_cosine",
            {"total_steps": 110, "warmup_steps": 10, "min_ratio": 0.1},
            # a quarter of the way, half a cosine has fallen by (1 - 1/sqrt(2)) / 2 = 0.146447
            {0: 0.1, 4: 0.5, 9: 1, 10: 1, 35: 1 - 0.9 * 0.146447, 60: 0.55, 110: 0.1},
        ),
        (
            "warmup_linear",
            {"total_steps": 110, "warmup_steps": 10, "min_ratio": 0.0},
            {0: 0.1, 4: 0.5, 10: 1, 60: 0.5, 109: 0.01, 110: 0},
        ),
        (
            "warmup_stable_decay",
            {"total_steps": 100, "warmup_steps": 10, "min_ratio": 0.0, "decay_fraction": 0.4},
            {0: 0.1, 9: 1, 59: 1, 60: 1, 80: 0.5, 99: 0.025, 100: 0},
        ),
        (
            "warmup_stable_decay",  # the decay waits for the warm-up
            {"total_steps": 100, "warmup_steps": 80, "min_ratio": 0.5, "decay_fraction": 1.0},
            {39: 0.5, 79: 1, 80: 1, 90: 0.75, 100: 0.5},
        ),
    ],
)
def test_a_schedule_has_the_values_computed_by_hand(
    name: str, numbers: dict[str, float], expected: dict[int, float]
) -> None:
    values = factors(name, **numbers)
    assert {step: float(values[step]) for step in expected} == pytest.approx(expected, abs=1e-5)


def test_the_defaults_are_those_of_the_signature() -> None:
    assert schedules["constant"](10**6, 10.0) == 1.0
    assert float(schedules["warmup_cosine"](1000, 1000.0)) == pytest.approx(0.1)
    assert float(schedules["linear"](1000, 1000.0)) == 0.0
