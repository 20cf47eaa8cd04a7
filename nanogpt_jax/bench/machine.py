"""What the machine at hand gives, as the planner needs it: two rates, from `bench ceiling`."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nanogpt_jax.bench import ours
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.planning import Rates


class Row(NamedTuple):
    """A row of `bench ceiling` that a rate is read from: `function` of ours.py does `amount`."""

    name: str
    unit: str
    function: str
    work: Mapping[str, Any]
    amount: float


ROWS = (
    Row(
        "matmul 1024 float32",
        "GFLOP",
        "matmul",
        {"size": 1024, "repeats": 8, "dtype": "float32"},
        2 * 1024**3 * 8,
    ),
    Row(
        "softmax 1024 x 1600 float32",
        "G",
        "softmax",
        {"rows": 1024, "size": 1600, "repeats": 4},
        1024 * 1600 * 4,
    ),
)
ROUNDS = 5


def measure_rates() -> Rates:
    """The rates of this machine now: the medians of a few short rounds."""
    return Rates(*(row.amount / _seconds(getattr(ours, row.function)(**row.work)) for row in ROWS))


def _seconds(work: Callable[[], Mapping[str, Any]]) -> float:
    work()
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def read_rates(path: Path) -> Rates:
    """The rates that `bench ceiling --json=PATH` has written."""
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["rows"]
        values = {line["row"]: line["values"] for line in lines if line["name"] == "ours"}
        return Rates(*(1e9 * statistics.median(values[row.name]) for row in ROWS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--ceiling={path}: {error!r}; the JSON file of `bench ceiling --json=FILE` is required"
        ) from error
