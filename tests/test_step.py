"""One step: accumulation, clipping, rates, random keys, and what it takes over and leaves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import experiment
from nanogpt_jax.config import Parallel
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.optim import schedules
from nanogpt_jax.parallel import make_layout
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import (
    StepSums,
    add_up,
    create_state,
    loss_sums,
    shard_gradient,
    train_step,
)
from tests.fakes import compile_events, fake_batch, fake_model, hyper_of, recipe_of

MODEL = fake_model()
PLAIN_SGD = {"momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}


@functools.cache
def compiled(**more: Any) -> Callable[[TrainState, Any, Any], tuple[TrainState, StepSums]]:
    """The step of the fake model under SGD."""
    return jax.jit(functools.partial(train_step, recipe_of("sgd", MODEL, **more)))


def start(model: Any = MODEL) -> TrainState:
    return create_state(recipe_of("sgd", model), hyper_of("sgd"), jax.random.key(3))


def change(before: TrainState, after: TrainState) -> np.ndarray:
    changes = jax.tree.map(np.subtract, before.params, after.params)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(changes)])


def test_accumulated_micro_shards_are_one_big_batch() -> None:
    with jax.enable_x64(True):
        model = fake_model(dtype=jnp.float64)
        batch = fake_batch(rows=8)
        batch = batch._replace(weights_BT=batch.weights_BT.astype(np.float64))
        tokens = batch.weights_BT.sum(1)
        assert len({float(tokens[shard::4].sum()) for shard in range(4)}) > 1  # shards differ
        texts, states, sums = [], [], []
        for accumulate in (1, 4):
            recipe = recipe_of("adamw", model, accumulate=accumulate)
            hyper = hyper_of("adamw", clip_norm=0.1)
            state = create_state(recipe, hyper, jax.random.key(0))
            lowered = jax.jit(functools.partial(train_step, recipe)).lower(state, batch, hyper)
            texts.append(lowered.as_text())
            after, measured = lowered.compile()(state, batch, hyper)
            states.append(after.params)
            sums.append(measured)
        assert ["while" in text for text in texts] == [False, True]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
            (states[0], sums[0]),
            (states[1], sums[1]),
        )
        assert sums[0].grad_norm > 0.1  # so the clipping was at work


def test_the_gradient_is_that_of_the_mean_over_tokens() -> None:
    batch = fake_batch()
    state, hyper = start(), hyper_of("sgd", **PLAIN_SGD)

    def mean(params: Any) -> jax.Array:
        sums = loss_sums(recipe_of("sgd", MODEL), params, batch)
        return sums.nats / sums.tokens

    expected = jax.jit(jax.grad(mean))(state.params)
    after, sums = compiled()(state, batch, hyper)
    assert 0 < float(sums.loss.tokens) == batch.weights_BT.sum() < batch.weights_BT.size
    found = jax.tree.map(np.subtract, state.params, after.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
    )
    half = batch._replace(weights_BT=batch.weights_BT * np.float32(0.01))
    assert half.weights_BT.sum() < 1  # and still a mean
    np.testing.assert_allclose(
        change(state, compiled()(state, half, hyper)[0]), change(state, after), atol=1e-6
    )


def test_a_batch_without_a_token_moves_nothing() -> None:
    empty = fake_batch()._replace(weights_BT=np.zeros((4, 5), np.float32))
    state = start()
    after, sums = compiled()(state, empty, hyper_of("sgd", **PLAIN_SGD))
    assert not change(state, after).any()
    assert float(sums.grad_norm) == 0.0


def test_clipping_bounds_the_update_and_reports_the_norm_before_it() -> None:
    state, batch = start(), fake_batch()

    def moved(clip_norm: float) -> tuple[float, float]:
        hyper = hyper_of("sgd", **PLAIN_SGD, clip_norm=clip_norm)
        after, sums = compiled()(state, batch, hyper)
        return float(np.linalg.norm(change(state, after))), float(sums.grad_norm)

    free, norm = moved(0.0)  # off
    assert free == pytest.approx(norm, rel=1e-4)
    assert moved(norm / 4) == pytest.approx((norm / 4, norm), rel=1e-4)
    assert moved(norm * 4) == pytest.approx((norm, norm), rel=1e-4)


def test_the_rate_is_that_of_the_schedule_at_the_updates_before_this_one() -> None:
    recipe = recipe_of("sgd", MODEL)._replace(schedule="warmup_linear")
    numbers = {"total_steps": 6.0, "warmup_steps": 2.0, "min_ratio": 0.1}
    hyper = {**hyper_of("sgd", **PLAIN_SGD), "schedule": jax.tree.map(np.float32, numbers)}
    hyper["learning_rate"] = np.float32(0.5)
    step, state, found = jax.jit(functools.partial(train_step, recipe)), start(), []
    for updates in range(8):
        assert int(state.step) == updates
        before = state
        state, sums = step(state, fake_batch(seed=updates), hyper)
        found.append(float(sums.learning_rate))
        moved = np.linalg.norm(change(before, state))
        assert moved == pytest.approx(float(sums.learning_rate * sums.grad_norm), rel=1e-3)
    expected = [0.5 * float(schedules["warmup_linear"](step, **numbers)) for step in range(8)]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found[0] == pytest.approx(0.25) and found[-1] == pytest.approx(0.05)


def test_a_new_number_compiles_nothing() -> None:
    state, batch = start(), fake_batch()
    step = compiled()
    step(state, batch, hyper_of("sgd"))
    with compile_events() as events:
        for number in ("learning_rate", "clip_norm", "momentum", "weight_decay"):
            after, _ = step(state, batch, hyper_of("sgd", **{number: 0.3}))
            jax.block_until_ready(after)
        assert not events
        jax.jit(lambda x: x - 1)(np.zeros(5))
        assert events, "a compilation was not seen, so none would have been"


def test_the_step_takes_over_the_memory_of_the_state() -> None:
    layout = make_layout(Parallel(), MODEL.axes, jax.devices()[:1])
    recipe, hyper = recipe_of("sgd", MODEL), hyper_of("sgd")
    state = layout.create(functools.partial(create_state, recipe), hyper, jax.random.key(0))
    update = layout.compile_step(train_step, recipe)
    after, _ = update(state, layout.place_batch(fake_batch()), hyper)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


# Dropout: the fake model scales its hidden state by one random number a pass.


def test_row_i_belongs_to_micro_shard_i_mod_a_and_draws_its_key() -> None:
    state, hyper = start(), hyper_of("sgd")
    recipe = recipe_of("sgd", MODEL)
    key = jax.random.fold_in(state.key, 0)
    alone = jax.jit(
        lambda batch, shard: loss_sums(recipe, state.params, batch, jax.random.fold_in(key, shard))
    )
    found, expected = [], []
    for row in range(4):
        batch = fake_batch()
        weights = np.zeros_like(batch.weights_BT)
        weights[row] = 1.0
        batch = batch._replace(weights_BT=weights)
        found.append(float(compiled(accumulate=2, dropout=True)(state, batch, hyper)[1].loss.nats))
        expected.append([float(alone(batch, shard).nats) for shard in range(2)])
    for row in range(4):
        assert found[row] == pytest.approx(expected[row][row % 2], rel=1e-5)
        assert found[row] != pytest.approx(expected[row][1 - row % 2], rel=1e-3)


def test_every_step_draws_its_own_key_and_the_same_one_when_repeated() -> None:
    state, batch = start(), fake_batch()
    still = hyper_of("sgd", **{**PLAIN_SGD, "learning_rate": 0.0})

    def losses(**more: Any) -> list[float]:
        own, found = state, []
        for _ in range(3):
            own, sums = compiled(**more)(own, batch, still)
            found.append(float(sums.loss.nats))
        return found

    assert len(set(losses(dropout=False))) == 1
    assert len(set(losses(dropout=True, accumulate=2))) == 3
    assert losses(dropout=True, accumulate=2) == losses(dropout=True, accumulate=2)


def test_gradients_that_were_gathered_elsewhere_make_the_same_update() -> None:
    state, batch, hyper = start(), fake_batch(), hyper_of("sgd")
    recipe = recipe_of("sgd", MODEL, accumulate=2, dropout=True)
    gradient = jax.jit(functools.partial(shard_gradient, recipe))
    rows = [jax.tree.map(lambda x, shard=shard: x[shard::2], batch) for shard in range(2)]
    shards = [gradient(state, rows[shard], hyper, shard) for shard in range(2)]
    assert shards[0].summed.loss.nats != shards[1].summed.loss.nats
    found = compiled(accumulate=2, dropout=True)(state, add_up(shards), hyper)
    expected = compiled(accumulate=2, dropout=True)(state, batch, hyper)
    assert change(state, expected[0]).any()
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
        (found[0].params, found[1]),
        (expected[0].params, expected[1]),
    )


def test_a_batch_that_micro_shards_cannot_share_is_refused_before_anything_is_built() -> None:
    config = experiment.default_config(model="gpt", optimizer="adamw", schedule="constant")
    config.train.batch_size, config.train.accumulate_steps = 10, 4
    with pytest.raises(ConfigError, match=r"batch_size=10 is not a multiple of.*steps=4"):
        experiment.resolve(config)
