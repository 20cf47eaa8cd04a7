"""Contract of experiments/: each can be redone, and what a page shows is what its trials gave."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from nanogpt_jax.sweep import Sweep
from nanogpt_jax.sweep.outcome import arms_of, shown, table_of, table_of_tuning
from nanogpt_jax.sweep.rounds import judging
from nanogpt_jax.sweep.spec import (
    SEED,
    Ended,
    Trial,
    load_settings,
    load_sweep,
    plan_of,
    require_sound,
)

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
LOG = (EXPERIMENTS / "LOG.md").read_text()
ALL = sorted(file.parent.name for file in EXPERIMENTS.glob("*/sweep.py"))
# A line for each that has ended: a link to its folder, the question, the verdict.
ROWS = {name: row for row in LOG.splitlines() for name in re.findall(r"^\| \[(\w+)\]\(\1/\)", row)}
SECTIONS = ("# ", "## What came out", "## Verdict")


@pytest.fixture(params=ALL)
def folder(request: pytest.FixtureRequest) -> Path:
    return EXPERIMENTS / request.param


def test_a_sweep_is_sound_and_its_page_says_how_it_is_redone(folder: Path) -> None:
    file = folder / "sweep.py"
    require_sound(load_sweep(file))
    command = f"--sweep=experiments/{folder.name}/sweep.py --parallel=2"
    assert command in file.read_text() and command in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(set(ALL) - {"scaling"}))  # which compares no arms
def test_arms_are_tuned_over_three_values_and_judged_by_three_fresh_seeds(name: str) -> None:
    sweep = load_sweep(EXPERIMENTS / name / "sweep.py")
    settings, tried = load_settings(sweep), dict[str, set[str]]()
    assert len(set(sweep.fresh_seeds)) >= 3
    for point in sweep.space.points():
        plan = plan_of(sweep, settings, point)
        assert plan.train.steps >= 1000 and plan.data.source == "bundled:tales"
        arm = str({name: value for name, value in point.items() if name not in sweep.tuned})
        tried.setdefault(arm, set()).add(str([point[name] for name in sweep.tuned]))
    assert len(tried) > 1 and min(map(len, tried.values())) >= 3


def read_trials(sweep: Sweep, file: Path) -> list[Ended]:
    """The trials of a CSV; their points by what the table shows of them."""
    names = sweep.space.addresses()

    def words(point: dict[str, object]) -> tuple[str, ...]:
        return tuple(shown(point.get(name, "")) for name in names)

    points = {words(dict(point)): point for point in sweep.space.points()}
    found = []
    with open(file, newline="") as lines:
        for row in csv.DictReader(lines):
            point = dict(points[tuple(row[name] for name in names)])
            if row.get(SEED):
                point[SEED] = int(row[SEED])
            value = float(row[sweep.objective]) if row["state"] == "complete" else None
            found.append(Ended(Trial(int(row["trial"]), point), value, row["state"] == "pruned"))
    return found


def test_who_has_a_line_in_the_log_has_a_verdict_and_nobody_else(folder: Path) -> None:
    assert ROWS.keys() <= set(ALL)
    assert ("## Verdict" in (folder / "README.md").read_text()) == (folder.name in ROWS)


def test_the_tables_of_a_page_are_what_its_trials_give(folder: Path) -> None:
    if folder.name not in ROWS:
        return  # it has not ended, and claims nothing: see the test before
    sweep = load_sweep(folder / "sweep.py")
    ended = read_trials(sweep, folder / "trials.csv")
    arms = arms_of(sweep, judging(sweep, ended) if sweep.fresh_seeds else ended)
    tables = [table_of_tuning(sweep, ended)] if sweep.tuned else []
    tables.append(table_of(sweep, arms))
    assert (folder / "table.md").read_text() == "\n\n".join(tables) + "\n"
    page = (folder / "README.md").read_text()
    assert all(table in page for table in tables)
    # All trials that were asked for are there, the second round's too.
    arms_asked = {str(each.trial.point) for each in ended if SEED not in each.trial.point}
    assert len(arms_asked) == len(list(sweep.space.points()))
    if sweep.fresh_seeds:
        assert {tuple(sorted(arm.values)) for arm in arms} == {tuple(sorted(sweep.fresh_seeds))}


def test_a_page_has_its_plot_its_sections_and_the_verdict_of_the_log(folder: Path) -> None:
    if folder.name not in ROWS:
        return
    page = (folder / "README.md").read_text()
    places = [page.index(section) for section in SECTIONS]
    assert places == sorted(places) and page.splitlines()[0].endswith("?")
    assert all(f"- **{word}**" in page for word in ("Arms", "Held alike", "Before", "Again"))
    assert "](objective.png)" in page
    assert (folder / "objective.png").read_bytes().startswith(b"\x89PNG")
    verdict = page.partition("## Verdict")[2].split()
    _, _, question, told, _ = ROWS[folder.name].split("|")
    assert question.strip() == page.splitlines()[0].removeprefix("# ")
    assert verdict[: len(told.split())] == told.split()
