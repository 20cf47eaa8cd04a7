"""The curves of a run, read on from where a reader has stopped, while the run still writes them.

Lines that are none of a run's are passed over, and hashes are not checked: curves are for looking
at, and `python -m nanogpt_jax.audit` proves a log.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nanogpt_jax.checkpoint.strict import open_plain
from nanogpt_jax.metrics import jsonl

# Of lines that are read at once; what is left is read by the next call.
MOST_BYTES = 2 << 20
BLOCK_BYTES = 1 << 20
LARGEST_STEP = 2**53  # what every reader of JSON counts exactly
EVERYTHING = -1  # a rewind to before the first step


class News(NamedTuple):
    """What has come since: values by step, of every scalar by name.

    `rewind` is the step after which a reader drops what he has: a run went on from there. `next` is
    the number of lines that were read by now, and `more` says whether others are there already.
    """

    next: int
    rewind: int | None
    more: bool
    series: dict[str, dict[int, float | None]]


def read_news(workdir: Path, after: int) -> News:
    """The lines of a run's log after the first `after`; a run without a log has none.

    Where there are fewer lines, the log is another one, which is read from its start.
    """
    try:
        with open_plain(workdir / jsonl.NAME) as raw, io.BufferedReader(raw) as file:
            start = _end_of(file, after)
            file.seek(start or 0)
            lines = file.read(MOST_BYTES)
            more = bool(file.peek(1))
    except (OSError, ValueError):  # none, or no plain file
        start, lines, more = None, b"", False
    whole = lines[: lines.rfind(b"\n") + 1]
    restarted = start is None and after > 0
    rewind, series = _gather(whole)
    return News(
        next=(0 if restarted else after) + whole.count(b"\n"),
        rewind=EVERYTHING if restarted else rewind,
        more=more and bool(whole),
        series={name: dict(sorted(values.items())) for name, values in series.items()},
    )


def _end_of(file: BinaryIO, count: int) -> int | None:
    """Where the first `count` lines end; None where there are fewer."""
    before = 0
    while block := file.read(BLOCK_BYTES) if count else b"":
        if (found := block.count(b"\n")) >= count:
            end = -1
            for _ in range(count):
                end = block.index(b"\n", end + 1)
            return before + end + 1
        count -= found
        before += len(block)
    return None if count else 0


def _gather(lines: bytes) -> tuple[int | None, dict[str, dict[int, float | None]]]:
    """The lowest step that a resume went back to, and the last word on each step after all."""
    rewind: int | None = None
    series: dict[str, dict[int, float | None]] = {}
    for record in _records(lines):
        step = record["step"]
        if (event := record.get("event")) == "resume":
            rewind = step if rewind is None else min(rewind, step)
            for name, values in series.items():
                series[name] = {known: value for known, value in values.items() if known <= step}
        elif event is None:
            for name, value in _scalars(record).items():
                series.setdefault(name, {})[step] = value if math.isfinite(value) else None
    return rewind, {name: values for name, values in series.items() if values}


def _records(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step = record.get("step") if isinstance(record, dict) else None
        if type(step) is int and 0 <= step <= LARGEST_STEP:
            yield record


def _scalars(record: dict[str, Any]) -> dict[str, float]:
    try:
        return jsonl.scalars_of(record)
    except (ValueError, TypeError, OverflowError):
        return {}
