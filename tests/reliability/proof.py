"""The table of docs/reliability.md, as the text that a run of the tests makes of its trials.

Pure functions of text: which tests ran, and that all of them passed, is conftest.py's to know.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

BEGIN = "<!-- from here on written by `pytest tests/reliability --prove` -->"
END = "<!-- up to here -->"
HEAD = (
    "| row | test | trials | worst | failures, 95 % | date | commit |",
    "|---|---|---|---|---|---|---|",
)


class Trial(NamedTuple):
    """One fault and what it cost; the larger `value`, the worse."""

    row: str
    test: str
    unit: str
    value: float


def rewrite(page: str, trials: Iterable[Trial], date: str, commit: str) -> str:
    """`page` with the lines of these tests renewed, and those of all others as they were.

    Raises ValueError where the page lacks the two lines between which the table stands.
    """
    before, begin, rest = page.partition(BEGIN)
    written, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks the line {BEGIN} or {END}")
    lines = _parse(written)
    for key, group in itertools.groupby(sorted(trials), itemgetter(0, 1, 2)):
        row, test, unit = key
        values = [trial.value for trial in group]
        lines[key] = _line(row, test, unit, values, date, commit)
    table = "\n".join([*HEAD, *(line for _, line in sorted(lines.items()))])
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def _parse(written: str) -> dict[tuple[str, str, str], str]:
    """The lines of a table by row, test and unit."""
    lines = {}
    for line in written.strip().splitlines()[len(HEAD) :]:
        row, test, _, worst, *_ = (cell.strip(" `") for cell in line.strip("|").split("|"))
        lines[row, test, worst.partition(" ")[2]] = line
    return lines


def _line(row: str, test: str, unit: str, values: list[float], date: str, commit: str) -> str:
    # Of n trials without a failure: the rule of three.
    bound = min(3 / len(values), 1)
    cells = (row, f"`{test}`", len(values), f"{max(values):.3g} {unit}", f"< {bound:.1%}")
    return f"| {' | '.join(map(str, (*cells, date, commit)))} |"
