"""A race is judged by what a run writes, from the start of its process; both sides see one text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from nanogpt_jax import experiment
from nanogpt_jax.bench import race
from nanogpt_jax.data.examples import Windows
from nanogpt_jax.data.store import Tokens
from nanogpt_jax.errors import DataError, NanogptError

WRITER = "tests.raced"
TEXT = "".join(f"{number} times 3 is {3 * number}.\n" for number in range(400))


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A running text of its own."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return f"text:{path}"


def words(metrics: Path, *losses: float) -> list[str]:
    return [WRITER, str(metrics), *map(str, losses)]


def test_a_race_ends_at_the_first_loss_that_is_not_above_the_goal(tmp_path: Path):
    metrics, start = tmp_path / "metrics.jsonl", time.monotonic()
    found = race.reach(1.88, words(metrics, 2.5, 1.88, 1.2), metrics)
    assert (found["step"], found["loss"]) == (1, 1.88)
    # The clock is the writer's own: the time until the line, not until it was read.
    clock = list(race.read_evaluations(metrics))[1].clock
    assert found["seconds"] == pytest.approx(clock - start, abs=0.05)
    assert 0 < found["seconds"] < time.monotonic() - start


def test_who_never_gets_there_is_named_with_its_lowest_loss_and_its_last_words(tmp_path: Path):
    metrics = tmp_path / "metrics.jsonl"
    with pytest.raises(NanogptError, match=r"(?s)raced ended .* 1\.9000; 1\.88 is.*out of steps"):
        race.reach(1.88, words(metrics, 2.5, 1.9), metrics)


def test_a_line_that_is_not_whole_yet_is_not_read(tmp_path: Path):
    metrics = tmp_path / "metrics.jsonl"
    assert list(race.read_evaluations(metrics)) == []
    lines = [{"step": 10, "train/loss": 1.0}, {"step": 10, "val/loss": 2.0, "t_monotonic": 3.5}]
    whole = "".join(json.dumps(line) + "\n" for line in lines)
    metrics.write_text(whole + '{"step": 20, "val/loss": 1.0')
    assert list(race.read_evaluations(metrics)) == [race.Evaluation(10, 2.0, 3.5)]


def test_the_parts_of_a_running_text_are_its_first_nine_tenths_and_the_rest(source: str):
    parts = race.read_parts(source)
    assert parts["train"] + parts["val"] == TEXT
    assert len(parts["train"]) == int(0.9 * len(TEXT))
    with pytest.raises(DataError, match="text:FILE is required"):
        race.read_parts("bundled:tales")


def test_both_sides_race_to_the_same_loss_on_the_same_text():
    (beside,), (alone,) = race.contests(True, "text:x"), race.contests(False, "text:x")
    assert [side.name for side in beside.contestants] == [beside.ours, beside.rival]
    assert [side.name for side in alone.contestants] == [alone.ours]
    work = [{side.arguments[name] for side in beside.contestants} for name in ("data", "goal")]
    assert work == [{"text:x"}, {race.GOAL}] and beside.target == 3.0


def test_our_recipe_is_evaluated_once_on_at_least_100_000_characters_of_the_same_length():
    plan = experiment.resolve(experiment.load_config(str(race.CONFIG)))
    assert plan.data.source == "shakespeare" and plan.tokenizer.kind == "char"
    assert plan.data.val_fraction == race.VAL_FRACTION
    assert (plan.train.seq_len, plan.eval.every_steps) == (64, 0)
    # All windows of the 111,540 characters held out.
    assert plan.eval.batches * plan.train.batch_size >= (111_540 - 1) // 64


@pytest.mark.parity
def test_the_peer_is_judged_on_the_windows_of_our_evaluation():
    torch = pytest.importorskip("torch")
    from nanogpt_jax.bench.peers import nanogpt_race as peer

    ids, one = np.arange(1000), np.array([1000])
    rows = peer.windows(torch.tensor(ids)).numpy()
    tokens = Tokens(ids.astype(np.uint32), np.array([0, 1000]), one, one, np.array([np.nan]))
    ours = Windows(tokens, peer.LENGTH, peer.LENGTH, None)
    batch = ours.build(np.arange(ours.count))
    assert len(rows) == ours.count == 15
    assert (rows[:, :-1] == batch.inputs_BT).all() and (rows[:, 1:] == batch.targets_BT).all()


@pytest.mark.parity
def test_the_peer_s_rate_warms_up_and_falls_to_a_tenth():
    pytest.importorskip("torch")
    from nanogpt_jax.bench.peers.nanogpt_race import rate_at

    rates = [rate_at(step, 2000) for step in range(2001)]
    assert max(rates) == rates[100] == 1e-3 and rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True) and rates[-1] == pytest.approx(1e-4)


@pytest.mark.slow
@pytest.mark.parity
def test_the_peer_runs_and_learns(source: str):
    pytest.importorskip("torch")
    recipe = {"steps": 60, "every": 20, "compiled": False}
    work = race.nanogpt(data=source, goal=3.0, **recipe)
    found = work()
    assert found["step"] in (20, 40, 60) and 0 < found["loss"] <= 3.0 < found["seconds"] + 3
