"""Contestants take turns in processes of their own; what their rounds say is judged honestly."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from nanogpt_jax import cli
from nanogpt_jax.bench import __main__ as command
from nanogpt_jax.bench.contest import Contestant, compete
from nanogpt_jax.bench.suites import ALONE, BESIDE_PEERS, Contest, Limit, Measure
from nanogpt_jax.bench.verdict import judge, render
from nanogpt_jax.errors import ConfigError, NanogptError


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


def test_a_suite_prints_a_table_and_writes_the_conditions_with_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(cli, "quiet", lambda: None)
    work = {"name": "A", "log": str(tmp_path / "log")}
    sides = [Contestant("ours", "tests.contested:note", work)]
    row = Contest("notes", "note", sides, 1.0, measures=[Measure("rounds", limit=None)])
    suite = command._alone("noting", lambda: [row])
    suite(rounds=2, json=str(tmp_path / "found.json"))
    assert capsys.readouterr().out.count("| notes") == 2
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["arguments"] == {"command": "noting", "rounds": 2}
    assert found.keys() == {"machine", "versions", "commit", "date", "arguments", "rows"}
    rates, rounds = found["rows"]
    assert len(rates["values"]) == 2 and rounds["values"] == [2.0, 3.0]


def test_an_unknown_suite_is_answered_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"nonsense.* is not known") as raised:
        cli.bind(command.COMMANDS, ["nonsense"])
    assert all(name in str(raised.value) for name in [*BESIDE_PEERS, *ALONE])
    with pytest.raises(ConfigError, match="--peer"):  # nobody else starts our main job
        cli.bind(command.COMMANDS, ["startup", "--peer=torch"])


def contest(target: float | None) -> Contest:
    sides = [Contestant(name, "", {}) for name in ("ours", "theirs")]
    return Contest("work", "token", sides, 100.0, rival="theirs", target=target)


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
    assert ours.values == [100.0, pytest.approx(100 / 3), 50.0, 20.0]
    assert ours.estimate and ours.estimate.value == pytest.approx(2.0)
    assert (ours.holds, theirs.estimate, theirs.holds) == (holds, None, None)
    table = render([ours, theirs])
    assert ("missed" in table) == (holds is False) and ("holds" in table) == (holds is True)
    assert json.loads(json.dumps(ours.as_json()))["holds"] is holds


def test_without_the_rival_nothing_is_claimed():
    (alone,) = judge(contest(1.1), {"ours": [{"seconds": 1.0}, {"seconds": 1.0}]})
    assert alone.holds is None and "no rival" in render([alone])


def test_a_round_that_says_its_amount_is_believed():
    found = {
        "ours": [{"seconds": 2.0, "amount": 1000}] * 2,
        "theirs": [{"seconds": 4.0, "amount": 20}] * 2,
    }
    ours, theirs = judge(contest(99.0), found)
    assert (ours.values, theirs.values) == ([500.0, 500.0], [5.0, 5.0])
    assert ours.estimate and ours.estimate.value == pytest.approx(100.0) and ours.holds


def measured(limit: Limit | None, values: Sequence[float]) -> tuple[Contest, dict]:
    row = Contest("start", "", [Contestant("ours", "", {})], measures=[Measure("wait", "s", limit)])
    return row, {"ours": [{"seconds": 1.0, "wait": value} for value in values]}


@pytest.mark.parametrize(
    "sense, value, holds",
    [
        ("at most", 4.2, True),  # the interval is 2.8 to 4.2, to one digit
        ("at most", 4.0, False),
        ("at least", 2.5, True),
        ("at least", 3.0, False),
    ],
)
def test_a_limit_is_kept_when_the_whole_interval_keeps_it(
    sense: Literal["at least", "at most"], value: float, holds: bool
):
    (line,) = judge(*measured(Limit(sense, value), [3.0, 4.0, 3.5, 3.9, 3.1]))
    assert line.estimate and 2.7 < line.estimate.low < 3.5 < line.estimate.high < 4.2
    assert line.holds is holds and line.values == [3.0, 4.0, 3.5, 3.9, 3.1]
    table = render([line])
    verdict = "holds" if holds else "missed"
    assert f"{sense} {value:.3g}: {verdict}" in table and "start: wait" in table
    assert json.loads(json.dumps(line.as_json()))["limit"] == {"sense": sense, "value": value}


def test_a_count_that_never_varies_keeps_to_itself():
    assert judge(*measured(Limit("at most", 1), [1, 1]))[0].holds is True
    assert judge(*measured(Limit("at most", 1), [2, 2]))[0].holds is False


def test_a_measure_without_a_limit_is_told_and_not_judged():
    (line,) = judge(*measured(None, [1.0, 2.0]))
    assert line.holds is None and line.estimate and "1.5" in render([line])


def test_one_round_proves_nothing():
    found = {"ours": [{"seconds": 1.0}], "theirs": [{"seconds": 100.0}]}
    line = judge(contest(1.1), found)[0]
    assert line.holds is False
    (alone,) = judge(*measured(Limit("at most", 8.0), [1.0]))
    assert alone.holds is False
    for each in (line, alone):
        assert json.loads(json.dumps(each.as_json(), allow_nan=False))["estimate"]["high"] is None


@pytest.mark.parametrize("name", sorted(BESIDE_PEERS))
def test_every_suite_names_contests_with_and_without_torch(name: str):
    with_torch, alone = BESIDE_PEERS[name](True), BESIDE_PEERS[name](False)
    assert [each.row for each in with_torch] == [each.row for each in alone]
    for each in with_torch:
        names = [side.name for side in each.contestants]
        assert names[0] == each.ours and (each.target is None or each.rival in names)
    assert all([side.name for side in each.contestants] == ["ours"] for each in alone)


@pytest.mark.parametrize("name", sorted(ALONE))
def test_every_suite_of_our_own_has_something_to_reach(name: str):
    for each in ALONE[name]():
        names = [side.name for side in each.contestants]
        assert each.ours in names and each.rival in {"", *names} - {each.ours}
        assert each.target or any(measure.limit for measure in each.measures)


def test_every_contestant_can_be_called_as_its_suite_says():
    contests = [each for suite in ALONE.values() for each in suite()]
    torch = importlib.util.find_spec("torch") is not None
    contests += [each for suite in BESIDE_PEERS.values() for each in suite(torch)]
    for contestant in (side for each in contests for side in each.contestants):
        module, _, function = contestant.place.partition(":")
        found = getattr(importlib.import_module(module), function)
        inspect.signature(found).bind(**json.loads(json.dumps(contestant.arguments)))


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
