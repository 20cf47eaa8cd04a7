"""What the answers of a server amount to: latencies, throughput, goodput and refusals.

Definitions are those that benchmarks of servers share: TTFT is the time to the first token, TPOT
that per token after it, (E2E - TTFT) / (tokens - 1), ITL that between two pieces of one text, E2E
that to the end; goodput counts the requests that met both limits. Arithmetic only.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nanogpt_jax.bench.load import Answer, Phase

REFUSED = (429, 503)
PERCENTILES = (50, 95, 99)  # those of a Spread
BUSIEST = 0.8  # share of a core from which a client measures itself


class Spread(NamedTuple):
    """Percentiles of some times."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float


class Limits(NamedTuple):
    """What a user puts up with."""

    ttft_seconds: float
    tpot_seconds: float

    def met_by(self, answer: Answer) -> bool:
        """Whether the answer came whole and in time; one token has no time per token."""
        if answer.status != 200 or answer.ttft_seconds > self.ttft_seconds:
            return False
        return answer.tpot_seconds is None or answer.tpot_seconds <= self.tpot_seconds


@dataclasses.dataclass(frozen=True)
class Row:
    """One server under one load. Latencies are None where nobody was served."""

    load: str
    way: str
    offered_per_second: float | None  # None: as fast as answers came
    seconds: float
    statuses: dict[int, int]  # 0: broke off
    ttft: Spread | None
    tpot: Spread | None
    itl: Spread | None
    e2e: Spread | None
    tokens_per_second: float
    goodput_per_second: float
    refusals_with_retry_after: float | None  # their share; None: no refusal
    refusal: Spread | None
    client_busy: float


@dataclasses.dataclass(frozen=True)
class Fairness:
    """Time to the first token of a light client, alone and beside one that takes all it can."""

    way: str
    alone: Spread | None
    beside: Spread | None
    statuses: list[int]  # of the light client's answers beside the other that were not served

    @property
    def ratio(self) -> float | None:
        """How many times longer the 95th percentile is beside the other."""
        if self.alone is None or self.beside is None:
            return None
        return self.beside.p95_seconds / self.alone.p95_seconds


def spread(seconds: Sequence[float]) -> Spread | None:
    """Percentiles, between two values by the share of the way; None of nothing."""
    return Spread(*np.percentile(seconds, PERCENTILES).tolist()) if len(seconds) else None


def summarise(
    load: str, way: str, phase: Phase, limits: Limits, offered_per_second: float | None = None
) -> Row:
    """The row of a phase."""
    served = phase.served
    refused = [each for each in phase.answers if each.status in REFUSED]
    seconds = max(phase.seconds, 1e-9)
    tpots = [each.tpot_seconds for each in served]
    return Row(
        load=load,
        way=way,
        offered_per_second=offered_per_second,
        seconds=phase.seconds,
        statuses=dict(sorted(Counter(each.status for each in phase.answers).items())),
        ttft=spread([each.ttft_seconds for each in served]),
        tpot=spread([each for each in tpots if each is not None]),
        itl=spread([gap for each in served for gap in each.gaps_seconds]),
        e2e=spread([each.e2e_seconds for each in served]),
        tokens_per_second=sum(each.tokens for each in served) / seconds,
        goodput_per_second=sum(map(limits.met_by, phase.answers)) / seconds,
        refusals_with_retry_after=(
            sum(each.retry_after for each in refused) / len(refused) if refused else None
        ),
        refusal=spread([each.e2e_seconds for each in refused]),
        client_busy=phase.busy,
    )


def render(rows: Sequence[Row], limits: Limits) -> str:
    """The rows as a table; latencies are p50/p95/p99 in milliseconds."""
    titles = ("load", "way", "asked/s", "TTFT", "TPOT", "ITL", "E2E", "tokens/s", "goodput/s")
    cells = [[*titles, "statuses", "refused in", "Retry-After", "client"]]
    for row in rows:
        share = row.refusals_with_retry_after
        cells.append(
            [
                row.load,
                row.way,
                "" if row.offered_per_second is None else three(row.offered_per_second),
                *map(milliseconds, (row.ttft, row.tpot, row.itl, row.e2e)),
                three(row.tokens_per_second),
                three(row.goodput_per_second),
                " ".join(f"{count}x{status or 'broken'}" for status, count in row.statuses.items()),
                milliseconds(row.refusal),
                "" if share is None else f"{share:.0%}",
                f"{row.client_busy:.0%}{'!' * (row.client_busy > BUSIEST)}",
            ]
        )
    lines = align(cells)
    lines.append(
        f"milliseconds p50/p95/p99; goodput: requests with TTFT <= {limits.ttft_seconds:g} s and "
        f"TPOT <= {limits.tpot_seconds * 1000:g} ms; client: its share of one core, ! = too much"
    )
    return "\n".join(lines)


def render_fairness(shares: Sequence[Fairness]) -> str:
    """The shares as a table."""
    cells = [["way", "TTFT alone", "beside a hog", "p95 ratio", "not served"]]
    for each in shares:
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        refused = str(len(each.statuses))
        cells.append(
            [each.way, milliseconds(each.alone), milliseconds(each.beside), ratio, refused]
        )
    return "\n".join(align(cells))


def align(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines in which every column is as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def milliseconds(found: Spread | None) -> str:
    """`12.3/45.6/78.9`, or nothing."""
    return "" if found is None else "/".join(three(1000 * each) for each in found)


def three(number: float) -> str:
    """Three digits that count."""
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"
