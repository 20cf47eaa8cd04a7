"""The picture of a sweep: the objective over what was changed (matplotlib, the extra `viz`)."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from nanogpt_jax.errors import MissingExtra
from nanogpt_jax.sweep.rounds import arm_of, judging, tuning
from nanogpt_jax.sweep.spec import Ended, Sweep

# Fields whose values are compared by their ratio.
LOGARITHMIC = ("optimizer.learning_rate", "optimizer.weight_decay", "init.scale")
MOST_TICKS = 8


def draw(sweep: Sweep, ended: Sequence[Ended], folder: Path) -> None:
    """Writes objective.png; a warning stands for it where matplotlib is missing."""
    whole = [each for each in ended if each.value is not None and not each.pruned]
    varied = [
        name
        for name in sweep.addresses()
        if len({str(each.trial.point.get(name)) for each in whole}) > 1
    ]
    names = list(sweep.tuned) if sweep.fresh_seeds else varied
    if not varied:
        return
    if importlib.util.find_spec("matplotlib") is None:
        logging.warning("no plot: %s", MissingExtra("objective.png", "viz"))
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4 * len(names), 6), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    plots = figure.subplots(1, len(names), sharey=True, squeeze=False)
    for name, axes in zip(names, plots[0], strict=True):
        held = [each for each in whole if name in each.trial.point]
        if sweep.fresh_seeds:
            _draw_rounds(axes, sweep, held, name)
        else:
            axes.plot(*_places(held, name), "o", alpha=0.7, markersize=5)
        _scale(axes, held, name, grid=sweep.sampler == "grid")
        axes.set_xlabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    plots[0][0].set_ylabel(sweep.objective)
    if sweep.fresh_seeds:
        figure.legend(*plots[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    figure.savefig(folder / "objective.png", dpi=150)


def _draw_rounds(axes: Any, sweep: Sweep, held: Sequence[Ended], name: str) -> None:
    """A line an arm for the first round, and filled points for the fresh seeds of the second."""
    if min(each.value or 0.0 for each in held) > 0:
        axes.set_yscale("log")
    arms: dict[str, list[Ended]] = {}
    for each in held:
        key = json.dumps(arm_of(sweep, each.trial.point), sort_keys=True)
        arms.setdefault(key, []).append(each)
    for number, (key, members) in enumerate(arms.items()):
        label = ", ".join(str(value) for value in json.loads(key).values()) or "all"
        first = sorted(tuning(members), key=lambda each: each.trial.point[name])
        colour = f"C{number}"
        axes.plot(*_places(first, name), "o-", color=colour, fillstyle="none", label=label)
        axes.plot(*_places(judging(sweep, members), name), "o", color=colour, alpha=0.7)


def _places(held: Sequence[Ended], name: str) -> tuple[list[Any], list[float | None]]:
    """Where points lie: numbers as they are, all else by its name."""
    places: list[Any] = [each.trial.point[name] for each in held]
    if not _numbers(places):
        places = [str(place) for place in places]
    return places, [each.value for each in held]


def _scale(axes: Any, held: Sequence[Ended], name: str, *, grid: bool) -> None:
    """Ratios where these are compared, and the few values of a grid instead of round ones."""
    tried: set[Any] = {each.trial.point[name] for each in held}
    if name not in LOGARITHMIC or not _numbers(tried) or min(tried, default=0) <= 0:
        return
    axes.set_xscale("log")
    if grid and len(tried) <= MOST_TICKS:
        axes.set_xticks(sorted(tried), [f"{value:g}" for value in sorted(tried)])
        axes.set_xticks([], minor=True)


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
