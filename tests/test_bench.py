"""The benchmarks' own arithmetic: rounds take turns, ratios are of rounds that ran side by side."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nanogpt_jax.bench import decode
from nanogpt_jax.bench.rounds import alternate, mean, speed_up
from nanogpt_jax.speculation import PromptLookup
from tests.test_speculation import table_model


def test_rounds_take_turns_after_one_that_is_not_timed():
    calls: list[str] = []
    seconds = alternate({name: lambda name=name: calls.append(name) for name in "AB"}, 3)
    assert "".join(calls) == "ABABABAB"
    assert {name: len(found) for name, found in seconds.items()} == {"A": 3, "B": 3}


def test_a_speed_up_is_the_mean_of_ratios_whatever_slowed_both():
    weather = np.array([1.0, 5.0, 2.0, 9.0, 1.5, 3.0, 1.0])
    steady = speed_up(2 * weather, weather)
    assert steady == pytest.approx((2.0, 2.0, 2.0))
    noise = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0])
    ratio = speed_up(2 * weather * noise, weather)
    assert ratio.low < ratio.value < ratio.high
    logs = np.log(2 * noise)
    wide = 2.447 * logs.std(ddof=1) / math.sqrt(7)  # Student's quantile of 6 degrees
    assert math.log(ratio.high / ratio.value) == pytest.approx(wide, rel=0.02)
    assert speed_up([3.0], [1.0]).high == math.inf


def test_the_interval_of_a_mean_is_students_and_one_round_has_none():
    values = [2.0, 4.0, 3.0, 5.0, 1.0, 3.0, 3.0]
    found = mean(values)
    wide = 2.447 * np.std(values, ddof=1) / math.sqrt(7)
    assert found == pytest.approx((3.0, 3.0 - wide, 3.0 + wide), rel=0.01)
    assert mean([2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert mean([2.0]) == (2.0, -math.inf, math.inf)


@pytest.fixture
def run() -> Any:
    rng = np.random.default_rng(0)
    model = table_model(rng.normal(size=(5, 5)))
    return SimpleNamespace(model=model, params={}, shape=SimpleNamespace(max_seq_len=32))


def test_every_way_is_measured_at_every_length_and_draws_the_same(run: Any):
    rows = decode.measure(
        run, [1], {"lookup": PromptLookup()}, rounds=2, prompt_tokens=(3, 7), new_tokens=(4, 40)
    )
    assert [row[:3] for row in rows] == [
        (way, length, count)
        for length in (3, 7)
        for count in (4, 40)
        for way in ("naive", "cached", "cached, lookup")
    ]
    assert all(len(row.seconds) == 2 for row in rows)
    assert [row.speed_up is None for row in rows] == [True, False, False] * 4
    drafted = rows[5].speculation
    assert drafted and 0 <= drafted.accepted <= drafted.drafted > 0
    lines = decode.render(rows, 32).splitlines()
    assert len(lines) == 14 and "tokens/s" in lines[0] and "drafts held" in lines[0]


def test_ways_that_disagree_are_no_measurement(run: Any, monkeypatch: pytest.MonkeyPatch):
    generate = decode._Way.generate

    def differ(self: Any, prompt: Any, new_tokens: int) -> None:
        generate(self, prompt, new_tokens)
        if self._speculates:
            self.tokens[-1] += 1

    monkeypatch.setattr(decode._Way, "generate", differ)
    with pytest.raises(RuntimeError, match="disagree"):
        decode.measure(
            run, [1], {"lookup": PromptLookup()}, rounds=1, prompt_tokens=(3,), new_tokens=(4,)
        )
