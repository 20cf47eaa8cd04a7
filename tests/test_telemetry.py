"""What is measured in every layer, and that measuring changes nothing."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import attention, models, telemetry
from nanogpt_jax.checkpoint.digest import digest_step
from nanogpt_jax.interface import LanguageModel
from nanogpt_jax.models import models as registry
from nanogpt_jax.step import Recipe, create_state, observe_step, train_step
from nanogpt_jax.train import train
from tests.fakes import COMPILE_EVENT, fake_batch, hyper_of
from tests.runs import lines_of, small_plan, small_run, steps_of

ROWS, LENGTH, VOCAB, LAYERS = 4, 8, 11, 2
MEASURES = {"param_rms", "grad_rms", "update_rms", "update_ratio"}
Observed = tuple[Any, telemetry.Measures]


def build(name: str = "gpt", **changes: Any) -> LanguageModel:
    sizes = {"d_model": 8, "max_seq_len": LENGTH, "n_layer": LAYERS, "n_head": 2, **changes}
    known = registry.fields(name)
    own = {field: value for field, value in sizes.items() if field in known}
    return models.build(name, registry[name](**own), VOCAB)


# With initial weights at which every layer already does something.
MODEL = build(init="gpt2")
HYPER = {**hyper_of("adamw", learning_rate=0.1, clip_norm=0.01), "aux_weight": np.float32(0.01)}
BATCH = fake_batch(ROWS, LENGTH, VOCAB)


def recipe_of(model: LanguageModel, **more: Any) -> Recipe:
    return Recipe(model, VOCAB, optimizer="adamw", schedule="constant", **more)


def step_of(step: Any, **more: Any) -> Any:
    return jax.jit(functools.partial(step, recipe_of(MODEL, **more)))


@pytest.fixture(scope="module")
def state() -> Any:
    return step_of(create_state)(HYPER, jax.random.key(2))


@pytest.fixture(scope="module")
def observed(state: Any) -> Observed:
    """The state that a look gives back, and what it saw of the first step."""
    return step_of(observe_step)(state, BATCH, HYPER)


def test_the_largest_logit_is_that_of_the_probabilities_and_has_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "LOGIT_QUERIES", 3)  # 8 queries are three chunks, one shorter
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 4, 8, 6)), rng.normal(size=(2, 2, 8, 6))
    allowed = np.tril(np.ones((8, 8), bool))[None]
    scores = np.einsum("bktc,bksc->bkts", q, k.repeat(2, axis=1)) / np.sqrt(6)
    expected = np.where(allowed, scores, -np.inf).max((2, 3))
    assert (scores.max((2, 3)) > expected).any(), "no later key was the largest"
    for mask in (None, jnp.asarray(allowed)):
        found = jax.jit(lambda q, k, m=mask: attention.largest_logit(q, k, m))
        np.testing.assert_allclose(found(q, k), expected, rtol=1e-5)
    slope = jax.jit(jax.grad(lambda q, k: attention.largest_logit(q, k, None).sum()))
    assert not np.any(slope(jnp.asarray(q), k))


@pytest.mark.parametrize("name", list(registry))
def test_every_model_is_measured_in_every_layer(name: str) -> None:
    model = build(name)
    recipe = recipe_of(model)
    state = jax.eval_shape(functools.partial(create_state, recipe), HYPER, jax.random.key(0))
    _, shapes = jax.eval_shape(functools.partial(observe_step, recipe), state, BATCH, HYPER)
    assert set(shapes) == {*state.params, "embedded"}
    for group, leaves in state.params.items():
        layered = group == "layers"
        of_layers = {"activation_rms", "attention_logit_max"} if layered else set()
        assert set(shapes[group]) == MEASURES | of_layers
        length = jax.tree.leaves(leaves)[0].shape[:1] if layered else ()
        assert {value.shape for value in shapes[group].values()} == {length}


def test_names_go_layer_by_layer(observed: Observed) -> None:
    names = list(telemetry.named(observed[1]))
    layered = [name.split("/") for name in names if name.startswith("layers/")]
    assert [layer for _, layer, _ in layered] == ["00"] * 6 + ["01"] * 6
    assert {measure for *_, measure in layered[:6]} == {measure for *_, measure in layered[6:]}
    assert {"ends/w_embed/grad_rms", "ends/embedded/activation_rms"} <= set(names[12:])


def test_sizes_are_root_mean_squares_of_what_the_step_does(state: Any, observed: Observed) -> None:
    after, sums = step_of(train_step)(state, BATCH, HYPER)

    def rms(tree: Any, layer: int) -> float:
        leaves = [np.ravel(leaf[layer]) for leaf in jax.tree.leaves(tree["layers"])]
        return float(np.sqrt(np.mean(np.concatenate(leaves) ** 2)))

    moved = jax.tree.map(lambda new, old: np.asarray(new) - old, after.params, state.params)
    for layer in range(LAYERS):
        size, step = rms(state.params, layer), rms(moved, layer)
        own = {name: float(value[layer]) for name, value in observed[1]["layers"].items()}
        assert own["param_rms"] == pytest.approx(size, rel=1e-5)
        assert own["update_rms"] == pytest.approx(step, rel=1e-3)
        assert own["update_ratio"] == pytest.approx(step / size, rel=1e-3)
    assert float(sums.grad_norm) > float(HYPER["clip_norm"]), "clipping was not at work"
    squares = 0.0
    for group, tree in state.params.items():
        numbers = sum(leaf.size for leaf in jax.tree.leaves(tree))
        squares += numbers * float(np.mean(np.square(observed[1][group]["grad_rms"])))
    assert np.sqrt(squares) == pytest.approx(float(sums.grad_norm), rel=1e-4)


def test_activations_and_logits_are_those_of_the_sites(state: Any, observed: Observed) -> None:
    sites = ("residual", "attention_logit_max")
    apply = jax.jit(functools.partial(MODEL.apply, capture=sites))
    output = apply(state.params, BATCH.inputs_BT)
    streams = [*output.captured["residual"], output.hidden_BTD]
    expected = [float(np.sqrt(np.mean(np.square(stream)))) for stream in streams]
    assert len(set(expected)) == LAYERS + 1
    found = observed[1]
    assert float(found["embedded"]["activation_rms"]) == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(found["layers"]["activation_rms"], expected[1:], rtol=1e-5)
    largest_LBH = np.asarray(output.captured["attention_logit_max"])
    assert largest_LBH.shape == (LAYERS, ROWS, 2)
    np.testing.assert_allclose(
        found["layers"]["attention_logit_max"], largest_LBH.max((1, 2)), rtol=1e-5
    )


@pytest.mark.parametrize("how", ["accumulated", "on devices"])
def test_shards_and_devices_see_what_one_big_batch_does(
    how: str, state: Any, observed: Observed
) -> None:
    if how == "accumulated":
        _, found = step_of(observe_step, accumulate=2)(state, BATCH, HYPER)
    else:  # what pmap does, on one device

        def meet(tree: Any, largest: bool = False) -> Any:
            return (jax.lax.pmax if largest else jax.lax.psum)(tree, "data")

        halves = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), BATCH)
        step = functools.partial(observe_step, recipe_of(MODEL), reduce=meet)
        over = jax.vmap(step, in_axes=(None, 0, None), axis_name="data")
        found = jax.tree.map(lambda x: x[1], jax.jit(over)(state, halves, HYPER)[1])
    assert jax.tree.structure(found) == jax.tree.structure(observed[1])
    for one, other in zip(jax.tree.leaves(observed[1]), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-8)


def test_a_look_gives_the_state_back_as_it_came(state: Any, observed: Observed) -> None:
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(observed[0]), strict=True):
        assert np.array_equal(_bits(before), _bits(after))


def _bits(leaf: Any) -> Any:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def test_a_model_without_a_site_is_measured_without_it() -> None:
    def refuse(*words: Any, capture: tuple[str, ...]) -> Any:
        raise ValueError(f"{capture} are not known")

    assert telemetry.sites_of(MODEL) == ("residual", "attention_logit_max")
    assert telemetry.sites_of(MODEL._replace(apply=refuse)) == ()
    assert telemetry.sites_of(build("embedding")) == ()


@pytest.mark.parametrize("model", ["embedding", pytest.param("gpt", marks=pytest.mark.slow)])
def test_a_run_that_is_looked_into_is_the_run_that_is_not(model: str, tmp_path: Path) -> None:
    sizes = {"model.n_layer": 2, "model.n_head": 2} if model == "gpt" else {}
    losses, digests = [], []
    for every, looks in ((0, []), (2, [2, 4])):
        folder = tmp_path / str(every)
        changes = {"log.layers_every_steps": every, "train.steps": 5, **sizes}
        train(small_plan(tmp_path, changes, model), folder)
        assert steps_of(folder, "ends/w_embed/grad_rms") == looks
        assert steps_of(folder, "layers/01/attention_logit_max") == (looks if sizes else [])
        lines = [line for line in lines_of(folder) if "train/loss" in line]
        losses.append([(line["step"], line["train/loss"], line["train/lr"]) for line in lines])
        digests.append(digest_step(folder, 5)["total"])
    assert losses[0] == losses[1] and len(losses[0]) == 5
    assert digests[0] == digests[1]


@pytest.mark.parametrize("every", [0, 2])
def test_looking_is_one_more_program_and_none_when_it_is_off(every: int, tmp_path: Path) -> None:
    compiled: Counter[str] = Counter()

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event == COMPILE_EVENT:
            compiled[str(about["fun_name"])] += 1

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        small_run(tmp_path / "run", {"log.layers_every_steps": every})
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled["jit(train_step)"] == 1
    assert compiled["jit(observe_step)"] == bool(every)
