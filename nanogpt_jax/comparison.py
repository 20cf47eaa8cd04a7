"""Several variants of one config, each an ordinary run, compared in a table, a CSV and a plot.

A config file that defines `get_variants()` asks for it. The runs lie side by side under one parent
directory and resume like any other.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from nanogpt_jax import experiment, record
from nanogpt_jax.config import Settings
from nanogpt_jax.errors import MissingExtra
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.train import train

COLUMNS = ("run", "parameters", "train loss", "val loss", "excess nats/char", "tokens/s", "seconds")


def compare(
    config: Settings,
    variants: Mapping[str, Mapping[str, Any]],
    assignments: Sequence[tuple[str, str]],
    parent: Path,
    **choices: Any,
) -> str:
    """Trains every variant under `parent` and returns the table; `choices` are those of `train`.

    All variants are resolved before the first one trains.
    """
    plans = {}
    for name, changes in variants.items():
        own = [(address, str(value)) for address, value in changes.items()]
        changed = experiment.SCHEMA.override(config, own)
        plans[name] = experiment.resolve(experiment.SCHEMA.override(changed, assignments))
    rows = []
    for name, plan in plans.items():
        logging.info("variant %s", name)
        train(plan, parent / name, **choices)
        rows.append(_row(name, parent / name, plan.tokens_per_step))
    with open(parent / "comparison.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    _plot(parent, list(variants))
    return _table(rows)


def _row(name: str, directory: Path, tokens_per_step: int) -> tuple[Any, ...]:
    measured = read_metrics(directory / "metrics.jsonl")
    last = {key: value for step in sorted(measured) for key, value in measured[step].items()}
    speeds = [m["perf/tokens_per_sec"] for m in measured.values() if "perf/tokens_per_sec" in m]
    # The median: one slow interval on a busy machine says nothing about a model.
    speed = float(np.median(speeds)) if speeds else float("nan")
    return (
        name,
        record.read(directory).parameters,
        last.get("train/loss", float("nan")),
        last.get("val/loss", float("nan")),
        last.get("val/excess_nats", float("nan")),
        round(speed),
        round(max(measured) * tokens_per_step / speed, 1),
    )


def _table(rows: Sequence[tuple[Any, ...]]) -> str:
    cells = [COLUMNS, *(tuple(_show(value) for value in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plot(parent: Path, names: Sequence[str]) -> None:
    """Held-out loss over steps, one line a run; a warning where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        logging.warning("no plot: %s", MissingExtra("comparison.png", "viz"))
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name in names:
        measured = read_metrics(parent / name / "metrics.jsonl")
        steps = [step for step in sorted(measured) if "val/loss" in measured[step]]
        losses = [measured[step]["val/loss"] for step in steps]
        axes.plot(steps, losses, label=name, linewidth=2)
        axes.annotate(
            f"{losses[-1]:.2f}", (steps[-1], losses[-1]), (4, -3), textcoords="offset points"
        )
    axes.set_xlabel("updates")
    axes.set_ylabel("held-out loss, nats per token")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(parent / "comparison.png", dpi=150)
