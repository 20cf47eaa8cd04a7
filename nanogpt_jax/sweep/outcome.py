"""What a sweep leaves when it is done: a table, a plot, a verdict over seeds, and the winner.

Trials that differ in their seed alone are one arm. An arm is better than another where the paired
difference of the seeds that both have leaves out 0 (verdict.py).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nanogpt_jax.sweep.launching import workdir_of
from nanogpt_jax.sweep.plot import draw
from nanogpt_jax.sweep.rounds import arm_of, judging, tuning
from nanogpt_jax.sweep.space import Point, Value
from nanogpt_jax.sweep.spec import SEED, Ended, Sweep
from nanogpt_jax.sweep.verdict import Mean, mean_of, paired


class Arm(NamedTuple):
    """Trials that differ in their seed alone: what they have in common, and the value by seed."""

    point: Point
    values: dict[int, float]

    @property
    def spread(self) -> Mean:
        """The mean over the seeds."""
        return mean_of(list(self.values.values()))


def report(sweep: Sweep, ended: Sequence[Ended], folder: Path) -> str:
    """Writes everything into `folder`, and returns the table of arms."""
    ended = sorted(ended, key=lambda each: each.trial.number)
    _write_trials(sweep, ended, folder)
    arms = arms_of(sweep, judging(sweep, ended) if sweep.fresh_seeds else ended)
    table = table_of(sweep, arms)
    if sweep.fresh_seeds:
        table = f"{table_of_tuning(sweep, ended)}\n\n{table}"
    (folder / "table.md").write_text(f"{table}\n", encoding="utf-8")
    if arms:
        _write_best(sweep, arms[0].point, folder)
    draw(sweep, ended, folder)
    return table


def arms_of(sweep: Sweep, ended: Sequence[Ended]) -> list[Arm]:
    """All arms with a trial that came to its end, the best mean first."""
    arms: dict[str, Arm] = {}
    for trial, value, pruned in ended:
        if value is None or pruned:
            continue
        common = {name: each for name, each in trial.point.items() if name != SEED}
        key = json.dumps(common, sort_keys=True)
        arm = arms.setdefault(key, Arm(common, {}))
        arm.values[int(trial.point.get(SEED, 0))] = value
    sign = 1 if sweep.direction == "minimize" else -1
    return sorted(arms.values(), key=lambda arm: sign * arm.spread.mean)


def table_of(sweep: Sweep, arms: Sequence[Arm]) -> str:
    """The arms in Markdown: mean, spread, interval, and the difference to the best."""
    names = [name for name in sweep.space.addresses() if name != SEED]
    head = [*names, f"mean {sweep.objective}", "sd", "95 % interval", "seeds", "against the best"]
    lines = [head, ["---"] * len(head)]
    places = _decimals(arm.spread.mean for arm in arms)
    for arm in arms:
        spread = arm.spread
        several = spread.count > 1
        lines.append(
            [
                *(shown(arm.point.get(name, "")) for name in names),
                f"{spread.mean:.{places}f}",
                f"{spread.sd:.{places}f}" if several else "",
                f"{spread.low:.{places}f} to {spread.high:.{places}f}" if several else "",
                str(spread.count),
                "best" if arm is arms[0] else _against(arms[0], arm, places),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_of_tuning(sweep: Sweep, ended: Sequence[Ended]) -> str:
    """What the first round found, in Markdown: a line for each arm, a column for each value.

    The best of an arm is bold, and told where it is the first or the last that was tried.
    """
    rows: dict[str, dict[str, float | None]] = {}
    columns: dict[str, list[Value]] = {}
    grid = list(sweep.space.points())
    ordered = sorted(  # a grid that has grown has later trials between the earlier ones
        tuning(ended),
        key=lambda each: grid.index(each.trial.point) if each.trial.point in grid else len(grid),
    )
    for trial, value, _ in ordered:
        arm = ", ".join(shown(each) for each in arm_of(sweep, trial.point).values()) or "all"
        values = [trial.point[name] for name in sweep.tuned if name in trial.point]
        column = ", ".join(map(shown, values))
        columns[column] = values
        rows.setdefault(arm, {})[column] = value
    if all(isinstance(each, int | float) for values in columns.values() for each in values):
        # Arms may have tried different ones.
        columns = dict(sorted(columns.items(), key=lambda column: column[1]))
    head = [f"{sweep.objective} at {', '.join(sweep.tuned)}", *columns]
    lines = [head, ["---"] * len(head)]
    places = _decimals(value for cells in rows.values() for value in cells.values() if value)
    choose = min if sweep.direction == "minimize" else max
    for arm, cells in rows.items():
        texts = {
            column: "failed" if value is None else f"{value:.{places}f}"
            for column, value in cells.items()
        }
        reached = {column: value for column, value in cells.items() if value is not None}
        if reached:
            best = choose(reached, key=lambda column: reached[column])
            # A better one may lie beyond: the arm was not tuned.
            edge = len(cells) > 2 and best in (next(iter(cells)), next(reversed(cells)))
            texts[best] = f"**{texts[best]}**" + " (at the edge)" * edge
        lines.append([arm, *(texts.get(column, "") for column in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _decimals(values: Iterable[float]) -> int:
    """Four, or up to six, so that the smallest value has three digits."""
    least = min((abs(value) for value in values if value), default=1.0)
    return min(max(4, 2 - math.floor(math.log10(least))), 6)


def _against(best: Arm, arm: Arm, places: int) -> str:
    """The paired difference to the best arm, and what it says."""
    if len(best.values.keys() & arm.values.keys()) < 2:
        return f"{arm.spread.mean - best.spread.mean:+.{places}f}, one seed says nothing"
    found = paired(best.values, arm.values)
    told = "" if found.told_apart else ", no difference"
    interval = f"{found.low:+.{places}f} to {found.high:+.{places}f}"
    return f"{found.mean:+.{places}f} ({interval}), p = {found.p_value:.2g}{told}"


def _write_trials(sweep: Sweep, ended: Sequence[Ended], folder: Path) -> None:
    names = sweep.addresses()
    with open(folder / "trials.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", sweep.objective, *names, "directory"])
        for trial, value, pruned in ended:
            state = "pruned" if pruned else "failed" if value is None else "complete"
            cells = [shown(trial.point.get(name, "")) for name in names]
            place = workdir_of(folder, trial.number).relative_to(folder)
            writer.writerow(
                [trial.number, state, "" if value is None else repr(value), *cells, place]
            )


def _write_best(sweep: Sweep, point: Point, folder: Path) -> None:
    """The winning arm as a config file that trains it again."""
    changes = "".join(f"        ({name!r}, {text!r}),\n" for name, text in sweep.changes(point))
    (folder / "best.py").write_text(
        f'''"""The best of {folder.name} by {sweep.objective}: {sweep.config}, changed.

python -m nanogpt_jax.main --config={folder.name}/best.py
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import SCHEMA, load_config


def get_config() -> ConfigDict:
    """{sweep.config} with what won."""
    changes = [
{changes}    ]
    return SCHEMA.override(load_config({sweep.config!r}), changes)[0]
''',
        encoding="utf-8",
    )


def shown(value: Any) -> str:
    """A value as a table has it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
