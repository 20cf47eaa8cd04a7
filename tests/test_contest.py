"""Contestants take turns in processes of their own; what their rounds say is judged honestly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanogpt_jax.bench.contest import Contestant, compete
from nanogpt_jax.bench.suites import SUITES, Contest
from nanogpt_jax.bench.verdict import judge, render
from nanogpt_jax.errors import NanogptError


def test_contestants_take_turns_and_the_first_round_is_not_counted(tmp_path: Path):
    log = str(tmp_path / "log")
    sides = [Contestant(name, "tests.contested:note", {"name": name, "log": log}) for name in "AB"]
    found = compete(sides, 3)
    assert Path(log).read_text() == "ABABABAB"
    assert {name: [each["rounds"] for each in rounds] for name, rounds in found.items()} == {
        "A": [2, 3, 4],
        "B": [2, 3, 4],
    }
    assert all(each["seconds"] > 0 for rounds in found.values() for each in rounds)


@pytest.mark.parametrize("late", [False, True])
def test_a_contestant_that_fails_is_named_with_its_reason(late: bool):
    with pytest.raises(NanogptError, match=r"(?s)broken ended: .*no room"):
        compete([Contestant("broken", "tests.contested:fail", {"late": late})], 3)


def contest(target: float | None) -> Contest:
    sides = [Contestant(name, "", {}) for name in ("ours", "theirs")]
    return Contest("work", 100.0, "token", sides, rival="theirs", target=target)


@pytest.mark.parametrize("target, holds", [(1.5, True), (1.99, True), (2.1, False), (None, None)])
def test_a_target_holds_when_the_whole_interval_lies_above_it(
    target: float | None, holds: bool | None
):
    weather = [1.0, 3.0, 2.0, 5.0]
    found = {
        "ours": [{"seconds": each} for each in weather],
        "theirs": [{"seconds": 2.0 * each} for each in weather],
    }
    ours, theirs = judge(contest(target), found)
    assert ours.rates == [100.0, pytest.approx(100 / 3), 50.0, 20.0]
    assert ours.ratio and ours.ratio.value == pytest.approx(2.0)
    assert (ours.holds, theirs.ratio, theirs.holds) == (holds, None, None)
    table = render([ours, theirs])
    assert ("missed" in table) == (holds is False) and ("holds" in table) == (holds is True)
    assert json.loads(json.dumps(ours.as_json()))["holds"] is holds


def test_without_the_rival_nothing_is_claimed():
    (alone,) = judge(contest(1.1), {"ours": [{"seconds": 1.0}, {"seconds": 1.0}]})
    assert alone.holds is None and "no rival" in render([alone])


def test_one_round_proves_nothing():
    found = {"ours": [{"seconds": 1.0}], "theirs": [{"seconds": 100.0}]}
    assert judge(contest(1.1), found)[0].holds is False


@pytest.mark.parametrize("name", sorted(SUITES))
def test_every_suite_names_contests_with_and_without_torch(name: str):
    with_torch, alone = SUITES[name](True), SUITES[name](False)
    assert [each.row for each in with_torch] == [each.row for each in alone]
    for each in with_torch:
        names = [side.name for side in each.contestants]
        assert names[0] == each.ours and (each.target is None or each.rival in names)
    assert all([side.name for side in each.contestants] == ["ours"] for each in alone)


@pytest.mark.slow
@pytest.mark.parity
def test_both_sides_of_a_training_contest_have_the_same_model_and_learn():
    torch = pytest.importorskip("torch")
    from nanogpt_jax.bench import ours
    from nanogpt_jax.bench.peers import nanogpt
    from nanogpt_jax.bench.suites import SMALL

    sizes = {**SMALL, "steps": 8, "dtype": "float32"}
    one, other = ours.train(**sizes), nanogpt.train(**sizes, compiled=False)
    for work in (one, other):
        first = work()["loss"]
        later = [work()["loss"] for _ in range(4)][-1]
        assert 3.5 < first < 4.3 and later < first  # ln 65 is 4.17; eight batches over and over
    held = nanogpt.GPT(
        SMALL["n_layer"], SMALL["n_head"], SMALL["d_model"], SMALL["length"], SMALL["vocab"], False
    )
    found = sum(parameter.numel() for parameter in held.parameters())
    assert found == ours.parameters(**{name: SMALL[name] for name in SMALL if name != "batch"})
    del torch
