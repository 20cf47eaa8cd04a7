"""Every optimizer against its definition in NumPy, and what all of them promise the step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from nanogpt_jax import models
from nanogpt_jax.models import embedding
from nanogpt_jax.optim import optimizers
from nanogpt_jax.optim.groups import group
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import Recipe, create_state, train_step
from tests.fakes import compile_events, fake_batch, fake_model, hyper_of, recipe_of

NAMES = list(optimizers)
RATES = {"adam": 0.03, "adamw": 0.03, "lion": 0.01, "muon": 0.02, "sgd": 0.3}
MODEL = fake_model()
GROUPS = group(MODEL.axes)
PARAMS = jax.tree.map(np.asarray, MODEL.init(jax.random.key(0)))


def gradients(count: int) -> list[Any]:
    rng = np.random.default_rng(1)
    return [
        jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), PARAMS)
        for _ in range(count)
    ]


@functools.cache
def compiled(name: str) -> Any:
    """(numbers, gradient, state) -> (direction, state), compiled once."""
    return jax.jit(
        lambda numbers, grad, state: optimizers[name](GROUPS, **numbers).update(grad, state, PARAMS)
    )


def directions(name: str, grads: list[Any], **numbers: float) -> list[Any]:
    """What the optimizer called `name` says to each of `grads`, at parameters that stay put."""
    numbers = {**hyper_of(name)["optimizer"], **jax.tree.map(np.float32, numbers)}
    state, said = optimizers[name](GROUPS).init(PARAMS), []
    for grad in grads:
        direction, state = compiled(name)(numbers, grad, state)
        said.append(jax.tree.map(np.asarray, direction))
    return said


def wide(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


def decayed(direction: Any, weight_decay: float) -> Any:
    """Adds the decay of the leaves that the fake model calls w_*."""
    return jax.tree.map_with_path(
        lambda path, leaf, param: leaf + weight_decay * param * path[-1].key.startswith("w_"),
        direction,
        wide(PARAMS),
    )


def test_the_registry_knows_the_five_optimizers() -> None:
    assert NAMES == ["adam", "adamw", "lion", "muon", "sgd"]


# What the step is promised.


class Trained(NamedTuple):
    recipe: Recipe
    step: Callable[..., Any]
    start: TrainState
    losses: list[float]


@functools.cache
def trained(name: str) -> Trained:
    recipe = recipe_of(name, MODEL)
    hyper = hyper_of(name, learning_rate=RATES[name])
    start = create_state(recipe, hyper, jax.random.key(0))
    step = jax.jit(functools.partial(train_step, recipe))
    state, losses = start, []
    for _ in range(30):
        state, sums = step(state, fake_batch(), hyper)
        losses.append(float(sums.loss.nats / sums.loss.tokens))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    return Trained(recipe, step, start, losses)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_tiny_problem_falls(name: str) -> None:
    losses = trained(name).losses
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_number_compiles_nothing_and_changes_the_update(name: str) -> None:
    step, start = trained(name).step, trained(name).start

    def two_updates(hyper: Any) -> np.ndarray:
        # Two, because the first does not show the decay of a momentum.
        after = step(step(start, fake_batch(), hyper)[0], fake_batch(seed=1), hyper)[0]
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(after.params)])

    usual = two_updates(hyper_of(name))
    numbers = [*hyper_of(name)["optimizer"], "learning_rate"]
    assert len(numbers) > 1
    with compile_events() as events:
        for number in numbers:
            assert (two_updates(hyper_of(name, **{number: 0.37})) != usual).any(), number
        assert not events
        jax.jit(lambda x: x + 1)(np.zeros(3))
        assert events, "a compilation was not seen, so none would have been"


@pytest.mark.parametrize("name", NAMES)
def test_lanes_under_vmap_are_the_runs_on_their_own(name: str) -> None:
    recipe, step, start, _ = trained(name)
    warm, batch = step(start, fake_batch(), hyper_of(name))[0], fake_batch(seed=1)
    lanes = [hyper_of(name, learning_rate=rate, clip_norm=0.5) for rate in (0.01, 0.05, 0.2)]
    hyper = jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
    together = jax.jit(jax.vmap(functools.partial(train_step, recipe), in_axes=(None, None, 0)))
    states = jax.device_get(together(warm, batch, hyper)[0].params)
    alone = [jax.device_get(step(warm, batch, own)[0].params) for own in lanes]
    for lane, solo in enumerate(alone):
        assert_close(jax.tree.map(lambda leaf, lane=lane: leaf[lane], states), solo, 1e-5)
    heads = [solo["w_head"] for solo in alone]
    assert (heads[0] != heads[1]).any() and (heads[1] != heads[2]).any()


@pytest.mark.parametrize("name", [name for name in NAMES if "adam" != name])
def test_decay_touches_matrices_and_spares_gains_and_biases(name: str) -> None:
    assert set(jax.tree.leaves(GROUPS.roles)) == {"matrix", "embedding", "head", "vector"}
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(PARAMS))
    grads = gradients(1)
    plain, with_decay = (directions(name, grads, weight_decay=d)[0] for d in (0.0, 0.25))
    nothing = jax.tree.map(np.zeros_like, PARAMS)
    added = jax.tree.map(np.subtract, with_decay, plain)
    assert_close(added, decayed(nothing, 0.25), 1e-6)


# Definitions.


def adam_by_hand(grads: list[Any], b1: float, b2: float, eps: float) -> list[Any]:
    said, first, second = [], 0.0, 0.0
    for count, grad in enumerate(grads, start=1):
        first = b1 * first + (1 - b1) * grad
        second = b2 * second + (1 - b2) * grad**2
        said.append((first / (1 - b1**count)) / (np.sqrt(second / (1 - b2**count)) + eps))
    return said


def by_hand(rule: Callable[..., list[Any]], grads: list[Any], **numbers: float) -> list[Any]:
    """`rule`, leaf by leaf in float64."""
    leaves = [jax.tree.leaves(wide(grad)) for grad in grads]
    said = [rule(list(history), **numbers) for history in zip(*leaves, strict=True)]
    structure = jax.tree.structure(PARAMS)
    return [jax.tree.unflatten(structure, step) for step in zip(*said, strict=True)]


def test_adamw_is_adam_by_hand_with_decay() -> None:
    grads = gradients(3)
    expected = by_hand(adam_by_hand, grads, b1=0.8, b2=0.9, eps=1e-3)
    found = directions("adamw", grads, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.2)
    assert_close(found, [decayed(step, 0.2) for step in expected], 1e-5)
    assert_close(directions("adam", grads, b1=0.8, b2=0.9, eps=1e-3), expected, 1e-5)


def lion_by_hand(grads: list[Any], b1: float, b2: float) -> list[Any]:
    said, momentum = [], 0.0
    for grad in grads:
        said.append(np.sign(b1 * momentum + (1 - b1) * grad))
        momentum = b2 * momentum + (1 - b2) * grad
    return said


def test_lion_is_the_sign_of_the_interpolation_by_hand_with_decay() -> None:
    grads = gradients(4)
    expected = by_hand(lion_by_hand, grads, b1=0.6, b2=0.9)
    assert any(
        (a != np.sign(b)).any()  # so the momentum matters
        for a, b in zip(jax.tree.leaves(expected[-1]), jax.tree.leaves(grads[-1]), strict=True)
    )
    found = directions("lion", grads, b1=0.6, b2=0.9, weight_decay=0.2)
    assert_close(found, [decayed(step, 0.2) for step in expected], 1e-6)


def sgd_by_hand(grads: list[Any], momentum: float) -> list[Any]:
    said, velocity = [], 0.0
    for grad in grads:
        velocity = momentum * velocity + grad
        said.append(velocity)
    return said


def test_sgd_is_the_velocity_by_hand_with_decay() -> None:
    grads = gradients(3)
    expected = by_hand(sgd_by_hand, grads, momentum=0.7)
    found = directions("sgd", grads, momentum=0.7, weight_decay=0.2)
    assert_close(found, [decayed(step, 0.2) for step in expected], 1e-5)


def orthogonalised(matrix: np.ndarray, steps: int) -> np.ndarray:
    """Newton-Schulz with Jordan's coefficients, in float64."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (np.linalg.norm(matrix) + 1e-8)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def muon_by_hand(grads: list[Any], momentum: float, steps: int) -> list[Any]:
    """For one stacked leaf, layers x inputs x outputs."""
    said, average = [], 0.0
    for count, grad in enumerate(grads, start=1):
        average = momentum * average + (1 - momentum) * grad
        ahead = momentum * average / (1 - momentum ** (count + 1))
        ahead = ahead + (1 - momentum) * grad / (1 - momentum**count)
        _, inputs, outputs = ahead.shape
        scale = max(1.0, outputs / inputs) ** 0.5
        said.append(scale * np.stack([orthogonalised(layer, steps) for layer in ahead]))
    return said


def test_muon_orthogonalises_the_momentum_of_each_layers_matrix_by_hand() -> None:
    grads = gradients(3)
    found = directions("muon", grads, momentum=0.8)
    assert PARAMS["layers"]["w_in"].shape[1] < PARAMS["layers"]["w_in"].shape[2]  # scaled up
    assert PARAMS["layers"]["w_out"].shape[1] > PARAMS["layers"]["w_out"].shape[2]  # not
    for name in ("w_in", "w_out"):
        own = [np.asarray(grad["layers"][name], np.float64) for grad in grads]
        expected = muon_by_hand(own, momentum=0.8, steps=5)
        np.testing.assert_allclose(
            [step["layers"][name] for step in found], expected, rtol=0, atol=1e-5
        )


def test_muon_makes_all_singular_values_of_a_layer_nearly_one() -> None:
    grads = gradients(1)
    (direction,) = directions("muon", grads)
    before, after = (
        np.linalg.svd(tree["layers"]["w_out"], compute_uv=False) for tree in (grads[0], direction)
    )
    assert (before.max(axis=1) / before.min(axis=1)).min() > 2
    assert after.min() > 0.6 and after.max() < 1.3  # where five steps with these coefficients lead


def test_muon_keeps_layers_apart() -> None:
    (grads,) = gradients(1)
    other = {**grads, "layers": {**grads["layers"], "w_in": grads["layers"]["w_in"].copy()}}
    other["layers"]["w_in"][0] *= np.linspace(1, 3, 6)
    (one,), (two,) = directions("muon", [grads]), directions("muon", [other])
    changed = one["layers"]["w_in"] != two["layers"]["w_in"]
    assert changed[0].any()
    assert not changed[1].any()
    assert_close(one["layers"]["w_out"], two["layers"]["w_out"], 0)


def test_muon_gives_the_rest_to_adam_at_its_own_rates() -> None:
    grads = gradients(2)
    expected = by_hand(adam_by_hand, grads, b1=0.8, b2=0.95, eps=1e-10)
    found = directions("muon", grads, embedding_ratio=3.0, head_ratio=0.5)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one["w_embed"], 3.0 * two["w_embed"], rtol=1e-4)
        np.testing.assert_allclose(one["w_head"], 0.5 * two["w_head"], rtol=1e-4)
        for name in ("gain", "b_in"):
            half = 0.5 * two["layers"][name]
            np.testing.assert_allclose(one["layers"][name], half, rtol=1e-4)


def test_muon_is_the_same_program_for_any_number_of_layers() -> None:
    def instructions(n_layer: int) -> int:
        model = fake_model(n_layer=n_layer)
        transform = optimizers["muon"](group(model.axes))
        params = jax.eval_shape(model.init, jax.random.key(0))
        state = jax.eval_shape(transform.init, params)
        text = jax.jit(transform.update).lower(params, state, params).as_text()
        assert "dot_general" in text
        return len(text.splitlines())

    assert instructions(2) == instructions(7)


def test_muon_trains_a_model_without_matrices() -> None:
    model = models.build("embedding", embedding.Config(d_model=4), 11)
    assert "matrix" not in jax.tree.leaves(group(model.axes).roles)
    recipe, hyper = recipe_of("muon", model), hyper_of("muon")
    state = jax.jit(functools.partial(create_state, recipe))(hyper, jax.random.key(0))
    after, _ = jax.jit(functools.partial(train_step, recipe))(state, fake_batch(), hyper)
    assert (np.asarray(after.params["w_head"]) != np.asarray(state.params["w_head"])).any()
