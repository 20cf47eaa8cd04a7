"""What the rounds of a contest say: values, their spread, what they amount to, whether it holds.

A miss is written as a miss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nanogpt_jax.bench.contest import Found
from nanogpt_jax.bench.rounds import Estimate, mean, speed_up
from nanogpt_jax.bench.suites import Contest, Limit, Measure


class Line(NamedTuple):
    """One contestant's rates, or one of its measures, over the rounds.

    The estimate of rates is their ratio to the rival's, round by round; that of a measure its mean.
    """

    row: str
    name: str
    unit: str
    values: list[float]
    estimate: Estimate | None
    limit: Limit | None
    relative: bool  # the estimate is a ratio

    @property
    def holds(self) -> bool | None:
        """Whether the whole interval keeps to the limit; None without one, or without a rival."""
        if self.limit is None or self.estimate is None:
            return None
        return self.limit.holds(self.estimate)

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file; the ends of an interval without end are null."""
        estimate = self.estimate and {
            name: number if math.isfinite(number) else None
            for name, number in self.estimate._asdict().items()
        }
        limit = self.limit and self.limit._asdict()
        return {**self._asdict(), "estimate": estimate, "limit": limit, "holds": self.holds}


def judge(contest: Contest, found: dict[str, list[Found]]) -> list[Line]:
    """A line for the rates of each contestant, and one for each measure of ours."""
    lines = _rates(contest, found) if contest.unit else []
    return lines + [_measured(contest, each, found[contest.ours]) for each in contest.measures]


def _rates(contest: Contest, found: dict[str, list[Found]]) -> list[Line]:
    rates = {
        name: [each.get("amount", contest.amount) / each["seconds"] for each in rounds]
        for name, rounds in found.items()
    }
    rival = rates.get(contest.rival)
    limit = None if contest.target is None else Limit("at least", contest.target)
    return [
        Line(
            contest.row,
            name,
            f"{contest.unit}/s",
            own,
            speed_up(own, rival) if rival and name != contest.rival else None,
            limit if name == contest.ours else None,
            relative=True,
        )
        for name, own in rates.items()
    ]


def _measured(contest: Contest, measure: Measure, rounds: Sequence[Found]) -> Line:
    row, values = f"{contest.row}: {measure.name}", [float(each[measure.name]) for each in rounds]
    unit, limit = measure.unit, measure.limit
    return Line(row, contest.ours, unit, values, mean(values), limit, relative=False)


def render(lines: Sequence[Line]) -> str:
    """The lines as a Markdown table."""
    rows = [
        "| work | who | median | from - to | ratio to the rival, or mean | 95 % | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        estimate, interval, target = "", "", ""
        if line.estimate:
            value, low, high = map(_short, line.estimate)
            estimate, interval = f"{value}x" if line.relative else value, f"{low} - {high}"
        if line.limit is not None:
            verdict = {True: "holds", False: "missed", None: "no rival"}[line.holds]
            target = f"{line.limit.sense} {_short(line.limit.value)}: {verdict}"
        median = f"{_short(float(np.median(line.values)))} {line.unit}".strip()
        spread = f"{_short(min(line.values))} - {_short(max(line.values))}"
        cells = (line.row, line.name, median, spread, estimate, interval, target)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _short(number: float) -> str:
    return f"{number:,.0f}" if 100 <= abs(number) < math.inf else f"{number:.3g}"
