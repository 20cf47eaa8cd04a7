"""Several variants of one config, each an ordinary run, compared in a table, a CSV and a plot.

A config file that defines `get_variants()` asks for it. The runs lie side by side under one parent
directory and resume like any other.
"""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from nanogpt_jax import record
from nanogpt_jax.config import Settings
from nanogpt_jax.errors import ConfigError, MissingExtra
from nanogpt_jax.experiment import Plan, resolve
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.start import GO_ON, Start
from nanogpt_jax.train import train

COLUMNS = ("run", "parameters", "train loss", "val loss", "excess nats/char", "tokens/s", "seconds")


def compare(
    config: Settings,
    variants: Mapping[str, Mapping[str, object]],
    parent: Path,
    overrides: Sequence[tuple[str, str]] = (),
    start: Start = GO_ON,
) -> str:
    """Trains every variant under `parent`, as `train` does one, and returns the table.

    All variants are resolved before the first one trains.
    """
    plans = resolve_variants(config, variants, overrides)
    rows = []
    for name, plan in plans.items():
        logging.info("variant %s", name)
        train(plan, parent / name, overrides, start)
        rows.append(row_of(name, parent / name, plan.tokens_per_step))
    with open(parent / "comparison.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    draw(parent, list(variants))
    return table_of(rows)


def resolve_variants(
    config: Settings,
    variants: Mapping[str, Mapping[str, object]],
    overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, Plan]:
    """The plan of every variant: its own changes on top of `config`, `overrides` on top of both.

    Raises one ConfigError with the problems of all.
    """
    plans: dict[str, Plan] = {}
    problems: list[str] = []
    for name, changes in variants.items():
        own = [(address, str(value)) for address, value in changes.items()]
        try:
            plans[name] = resolve(config, [*own, *overrides])
        except ConfigError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return plans


def row_of(name: str, directory: Path, tokens_per_step: int) -> tuple[Any, ...]:
    measured = read_metrics(directory / "metrics.jsonl")
    last = {key: value for step in sorted(measured) for key, value in measured[step].items()}
    speeds = [m["perf/tokens_per_sec"] for m in measured.values() if "perf/tokens_per_sec" in m]
    # The median: one slow interval on a busy machine says nothing about a model.
    speed = float(np.median(speeds)) if speeds else math.nan
    return (
        name,
        record.read(directory).parameters,
        last.get("train/loss", math.nan),
        last.get("val/loss", math.nan),
        last.get("val/excess_nats", math.nan),
        speed,
        max(measured) * tokens_per_step / speed,
    )


def table_of(rows: Sequence[tuple[Any, ...]]) -> str:
    cells = [COLUMNS, *(tuple(_show(value) for value in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _show(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if math.isnan(value):
        return "n/a"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.0f}"


def draw(parent: Path, names: Sequence[str]) -> None:
    """The excess over the entropy, where it is known, else the loss; a line a run.

    A warning stands for the plot where matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        logging.warning("no plot: %s", MissingExtra("comparison.png", "viz"))
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = {name: read_metrics(parent / name / "metrics.jsonl") for name in names}
    excess, label = "val/excess_nats", "nats per character above the entropy"
    if not all(any(excess in values for values in run.values()) for run in runs.values()):
        excess, label = "val/loss", "held-out loss, nats per token"
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, run in runs.items():
        steps = [step for step in sorted(run) if excess in run[step]]
        values = [run[step][excess] for step in steps]
        (line,) = axes.plot(steps, values, linewidth=2, marker="o", markersize=3.5)
        # The name stands at its line's end, so that no legend has to be looked up.
        axes.annotate(
            f"{name} {values[-1]:.4f}",
            (steps[-1], values[-1]),
            (6, -3),
            textcoords="offset points",
            color=line.get_color(),
        )
    axes.set_yscale("log")
    axes.set_xlabel("updates")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(parent / "comparison.png", dpi=150)
