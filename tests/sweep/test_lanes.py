"""Lanes of one program: each is the run that it would be alone."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import models
from nanogpt_jax.checkpoint import commit, digest_step, list_steps
from nanogpt_jax.data.pipeline import Batches
from nanogpt_jax.errors import ConfigError, Interrupted
from nanogpt_jax.experiment import Plan, load
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import Batch
from nanogpt_jax.models import gpt
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.step import create_state, train_step
from nanogpt_jax.sweep.lanes import compile_lanes, stacked, train_lanes
from nanogpt_jax.train import train
from tests.fakes import fake_batch, hyper_of, recipe_of
from tests.reliability.trainer import told
from tests.runs import lines_of, small_plan, steps_of

DEEP = {
    "model.n_layer": 2,
    "model.n_head": 2,
    "model.n_kv_head": 1,
    "model.d_model": 16,
    "optimizer.name": "adamw",
    "schedule.name": "warmup_cosine",
}
# Two seeds, three rates, and every other number that a lane may have of its own.
OWN: tuple[dict[str, Any], ...] = (
    {"seed": 0, "optimizer.learning_rate": 0.003},
    {"seed": 1, "optimizer.learning_rate": 0.01, "optimizer.weight_decay": 0.3},
    {"seed": 1, "optimizer.learning_rate": 0.03, "init.scale": 0.5, "optimizer.b2": 0.99},
    {"seed": 0, "schedule.warmup_steps": 3, "schedule.min_ratio": 0.5, "optimizer.clip_norm": 0.5},
)


def plans_in(folder: Path, own: Any = OWN, changes: Mapping[str, Any] = {}) -> dict[Path, Plan]:
    folder.mkdir(exist_ok=True)
    return {
        folder / f"lane{number}": small_plan(folder, {**DEEP, **changes, **each}, "gpt")
        for number, each in enumerate(own)
    }


def losses(workdir: Path) -> list[float]:
    return [float.fromhex(each) for each in told(workdir, "loss_hex").values()]


def measured(workdir: Path) -> list[float]:
    return [line["val/loss"] for line in lines_of(workdir) if "val/loss" in line]


@pytest.mark.slow
def test_every_lane_is_the_run_that_it_would_be_alone(tmp_path: Path) -> None:
    lanes, alone = plans_in(tmp_path / "lanes"), plans_in(tmp_path / "alone")
    assert set(train_lanes(lanes).values()) == {None}
    for workdir, plan in alone.items():
        train(plan, workdir)
    seen = []
    for one, other in zip(lanes, alone, strict=True):
        assert told(one, "batch_sha256") == told(other, "batch_sha256")
        assert losses(one) == pytest.approx(losses(other), rel=1e-5)
        assert list_steps(one) == list_steps(other) == [2, 4, 6]
        for name in ("train/lr", "val/loss"):
            assert steps_of(one, name) == steps_of(other, name)
        val = [
            [line["val/loss"] for line in lines_of(w) if "val/loss" in line] for w in (one, other)
        ]
        assert val[0] == pytest.approx(val[1], rel=1e-5)
        seen.append(losses(one)[-1])
    assert len(set(seen)) == len(OWN), "lanes that are alike would prove nothing"


def wide(tree: Any) -> Any:
    """Real numbers in double precision."""
    return jax.tree.map(
        lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, tree
    )


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "lion"])
def test_in_double_precision_two_hundred_updates_agree_to_ten_digits(optimizer: str) -> None:
    """Parameters and all, so that nothing but the order of sums is left to differ."""
    config = gpt.Config(n_layer=2, n_head=2, n_kv_head=1, d_model=16, max_seq_len=8)
    rates, decays = (0.001, 0.003, 0.01), (0.0, 0.1, 0.2)
    with jax.enable_x64(True):
        model = models.build("gpt", config, 11, dtype=jnp.dtype("float64"))
        recipe = recipe_of(optimizer, model)
        hypers = [
            wide(hyper_of(optimizer, learning_rate=rate, weight_decay=decay))
            for rate, decay in zip(rates, decays, strict=True)
        ]
        states = [
            wide(create_state(recipe, hyper, jax.random.key(seed)))
            for seed, hyper in enumerate(hypers)
        ]
        together, update = stacked(states), compile_lanes(recipe, shared=True)
        alone, step = [*states], jax.jit(functools.partial(train_step, recipe))
        for number in range(200):
            batch = fake_batch(length=8, seed=number)
            together, sums = update(together, batch, stacked(hypers))
            for lane in range(len(alone)):
                alone[lane], own = step(alone[lane], batch, hypers[lane])
                assert sums.loss.nats.dtype == np.float64
                assert float(sums.loss.nats[lane]) == pytest.approx(float(own.loss.nats), rel=1e-10)
    assert len({float(own) for own in sums.loss.nats}) == len(rates)


@pytest.mark.slow
def test_a_lane_that_is_not_finite_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    own = (
        {"seed": 0},
        {"seed": 0, "optimizer.learning_rate": 1e30},
        {"seed": 0, "init.scale": 2.0},
    )
    good = (own[0], {"seed": 0, "optimizer.learning_rate": 1e-3}, own[2])
    sick, sound = plans_in(tmp_path / "sick", own), plans_in(tmp_path / "sound", good)
    reasons = list(train_lanes(sick).values())
    assert [reason is None for reason in reasons] == [True, False, True]
    assert "learning rate" in (reasons[1] or "")
    assert set(train_lanes(sound).values()) == {None}
    for number in (0, 2):
        one, other = tmp_path / f"sick/lane{number}", tmp_path / f"sound/lane{number}"
        assert told(one, "loss_hex") == told(other, "loss_hex")
        assert digest_step(one, 6) == digest_step(other, 6)
    assert 6 not in list_steps(tmp_path / "sick/lane1")


@pytest.mark.slow
def test_lanes_of_one_seed_share_their_batches(tmp_path: Path) -> None:
    lanes = plans_in(
        tmp_path / "lanes", [{"optimizer.learning_rate": rate} for rate in (0.01, 0.02)]
    )
    train_lanes(lanes)
    (first, second) = (told(workdir, "batch_sha256") for workdir in lanes)
    assert first == second and len(set(first.values())) == 6


@pytest.mark.slow
def test_a_lane_is_a_run_like_any_other(tmp_path: Path) -> None:
    lanes = plans_in(tmp_path / "lanes", OWN[:2])
    train_lanes(lanes)
    for workdir, plan in lanes.items():
        run = load(workdir)
        assert run.record.config["optimizer"]["learning_rate"] == plan.optimizer.learning_rate
        drawn = Generator(run.model, run.shape.max_seq_len).stream(
            run.params, [1], Sampling(seed=0), max_tokens=4
        )
        assert len(list(drawn)) == 4


@pytest.mark.slow
def test_lanes_go_on_from_the_newest_step_that_all_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken, broken = plans_in(tmp_path / "unbroken"), plans_in(tmp_path / "broken")
    train_lanes(unbroken)
    train_lanes(
        plans_in(tmp_path / "broken", changes={"train.steps": 4, "schedule.total_steps": 6})
    )
    shutil.rmtree(commit.path_of(tmp_path / "broken/lane2", 4))  # it was killed in between
    train_lanes(plans_in(tmp_path / "broken", changes={"schedule.total_steps": 6}))
    for one, other in zip(unbroken, broken, strict=True):
        resumed = [line["step"] for line in lines_of(other) if line.get("event") == "resume"]
        assert resumed == [2]
        assert told(one, "batch_sha256") == told(other, "batch_sha256")
        assert losses(one) == pytest.approx(losses(other), rel=1e-6)


@pytest.mark.slow
def test_a_signal_ends_all_lanes_saved_where_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, following = itertools.count(1), Batches.__next__

    def signalled(batches: Batches) -> Batch:
        if next(calls) == 2 * len(OWN) + 1:  # of the third update
            os.kill(os.getpid(), signal.SIGTERM)
        return following(batches)

    monkeypatch.setattr(Batches, "__next__", signalled)
    lanes = plans_in(tmp_path / "lanes")
    with pytest.raises(Interrupted, match="step 3"):
        train_lanes(lanes)
    assert {tuple(list_steps(workdir)) for workdir in lanes} == {(2, 3)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model.n_layer": 1}, "model.n_layer"),
        ({"optimizer.name": "muon"}, "optimizer.name"),
        ({"train.batch_size": 8}, "train.batch_size"),
        ({"train.max_seconds": 5.0}, "train.max_seconds"),
    ],
)
def test_what_needs_another_program_is_named_before_anything_is_written(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    lanes = plans_in(tmp_path / "lanes", [{}, change])
    with pytest.raises(ConfigError, match=named):
        train_lanes(lanes)
    assert [path.name for path in (tmp_path / "lanes").iterdir()] == ["tables.txt"]


def test_all_lanes_are_one_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles(True):
        train_lanes(plans_in(tmp_path / "lanes", changes={"eval.every_steps": 0}))
    compiled = [each.getMessage() for each in caplog.records if "Compiling" in each.getMessage()]
    assert sum("train_step" in each for each in compiled) == 1, json.dumps(compiled, indent=1)
