"""The figures of `bench serve`: percentiles, goodput, refusals, and the tables of them."""

from __future__ import annotations

import numpy as np
import pytest

from nanogpt_jax.bench.figures import (
    Fairness,
    Limits,
    Spread,
    render,
    render_fairness,
    spread,
    summarise,
)
from nanogpt_jax.bench.load import Answer, Phase

LIMITS = Limits(ttft_seconds=1.0, tpot_seconds=0.1)


def served(*, sent: float = 0.0, first: float, last: float, tokens: int) -> Answer:
    texts = tuple(np.linspace(sent + first, sent + last, tokens).tolist())
    return Answer(200, sent, sent + last, texts, tokens)


def test_the_times_of_an_answer_are_those_of_its_pieces():
    answer = Answer(200, 10.0, 12.5, (10.5, 10.7, 12.1), tokens=5)
    assert answer.ttft_seconds == pytest.approx(0.5)
    assert answer.e2e_seconds == pytest.approx(2.5)
    assert answer.tpot_seconds == pytest.approx((2.5 - 0.5) / 4)
    assert answer.gaps_seconds == pytest.approx([0.2, 1.4])
    assert Answer(200, 0.0, 1.0, (1.0,), tokens=1).tpot_seconds is None
    nothing = Answer(200, 3.0, 4.0)
    assert (nothing.ttft_seconds, nothing.gaps_seconds) == (1.0, [])


def test_percentiles_lie_between_values():
    assert spread([]) is None
    assert spread([4.0]) == (4.0, 4.0, 4.0)
    assert spread([*range(101)]) == Spread(50.0, 95.0, 99.0)
    assert spread([1.0, 2.0]) == pytest.approx((1.5, 1.95, 1.99))


def test_goodput_counts_what_came_whole_and_met_both_limits():
    assert LIMITS.met_by(served(first=1.0, last=1.9, tokens=10))
    assert not LIMITS.met_by(served(first=1.01, last=1.1, tokens=10))
    assert not LIMITS.met_by(served(first=0.1, last=1.1, tokens=10))
    assert LIMITS.met_by(served(first=0.9, last=0.9, tokens=1))
    assert not LIMITS.met_by(Answer(0, 0.0, 0.1, (0.1,), 1))
    assert not LIMITS.met_by(Answer(503, 0.0, 0.1))


@pytest.fixture
def phase() -> Phase:
    answers = [
        served(first=0.5, last=1.0, tokens=11),
        served(sent=1.0, first=2.0, last=3.0, tokens=21),
        Answer(503, 0.0, 0.25, retry_after=True),
        Answer(429, 0.0, 0.75),
        Answer(0, 0.0, 2.0, (1.0,), 1),
    ]
    return Phase(answers, started=0.0, seconds=4.0, busy=0.85)


def test_a_row_is_made_of_all_answers_of_a_phase(phase: Phase):
    row = summarise("2 C", "ours", phase, LIMITS, 1.25)
    assert (row.load, row.way, row.offered_per_second) == ("2 C", "ours", 1.25)
    assert row.statuses == {0: 1, 200: 2, 429: 1, 503: 1}
    assert row.ttft == spread([0.5, 2.0]) and row.tpot == spread([0.05, 0.05])
    assert row.e2e == spread([1.0, 3.0])
    assert row.itl == pytest.approx(spread([0.05] * 30))
    assert (row.tokens_per_second, row.goodput_per_second) == (32 / 4, 1 / 4)
    assert row.refusals_with_retry_after == 0.5
    assert row.refusal == spread([0.25, 0.75])
    assert phase.finished_per_second(2.0) == 1 / 2 and phase.finished_per_second(4.0) == 2 / 4


def test_a_phase_in_which_nobody_is_served_has_a_row_too():
    row = summarise("8 C", "ours", Phase([], 0.0, 0.0, 0.0), LIMITS)
    assert row.ttft is row.refusal is row.refusals_with_retry_after is None
    assert row.statuses == {} and row.goodput_per_second == 0
    assert len(render([row], LIMITS).splitlines()) == 3


def test_the_table_has_milliseconds_and_marks_a_client_that_is_too_busy(phase: Phase):
    title, line, legend = render([summarise("2 C", "ours", phase, LIMITS, 1.25)], LIMITS).split(
        "\n"
    )
    assert "TTFT" in title and "TPOT <= 100 ms" in legend
    for cell in ("1250/1925/1985", "1xbroken 2x200 1x429 1x503", "500/725/745", "50%", "85%!"):
        assert cell in line


def test_fairness_is_the_ratio_of_the_95th_percentiles():
    share = Fairness("ours", Spread(0.01, 0.02, 0.03), Spread(0.02, 0.05, 0.09), [503])
    assert share.ratio == pytest.approx(2.5)
    lines = render_fairness([share, Fairness("peer", None, None, [])]).split("\n")
    assert lines[1].split() == ["ours", "10.0/20.0/30.0", "20.0/50.0/90.0", "2.50", "1"]
    assert lines[2].split() == ["peer", "0"]
