"""What the rounds of a contest say: rates, spread, the ratio to a rival, and whether it holds.

A miss is written as a miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nanogpt_jax.bench.contest import Found
from nanogpt_jax.bench.rounds import Ratio, speed_up
from nanogpt_jax.bench.suites import Contest


class Line(NamedTuple):
    """One contestant of one contest; `ratio` is its rate over the rival's, round by round."""

    row: str
    name: str
    unit: str
    rates: list[float]
    ratio: Ratio | None
    target: float | None

    @property
    def holds(self) -> bool | None:
        """Whether the whole interval lies above the target; None without a target."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio.low > self.target

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        ratio = self.ratio and self.ratio._asdict()
        return {**self._asdict(), "ratio": ratio, "holds": self.holds}


def judge(contest: Contest, found: dict[str, list[Found]]) -> list[Line]:
    """A line for each contestant."""
    seconds = {name: [each["seconds"] for each in rounds] for name, rounds in found.items()}
    lines = []
    for name, times in seconds.items():
        rival = seconds.get(contest.rival)
        lines.append(
            Line(
                contest.row,
                name,
                contest.unit,
                [contest.amount / each for each in times],
                speed_up(rival, times) if rival and name != contest.rival else None,
                contest.target if name == contest.ours else None,
            )
        )
    return lines


def render(lines: Sequence[Line]) -> str:
    """The lines as a Markdown table."""
    rows = [
        "| work | who | median/s | from - to | ratio to the rival | 95 % | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        rates = np.array(line.rates)
        ratio, interval, target = "", "", ""
        if line.ratio:
            ratio = f"{line.ratio.value:.2f}"
            interval = f"{line.ratio.low:.2f} - {line.ratio.high:.2f}"
        if line.target is not None:
            verdict = {True: "holds", False: "missed", None: "no rival"}[line.holds]
            target = f">= {line.target:g}: {verdict}"
        median = f"{_short(float(np.median(rates)))} {line.unit}"
        spread = f"{_short(rates.min())} - {_short(rates.max())}"
        cells = (line.row, line.name, median, spread, ratio, interval, target)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
