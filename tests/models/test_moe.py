"""The mixture of experts: who answers, what keeps experts in use, and how that enters training."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax.experiment import default_config, resolve
from nanogpt_jax.interface import Batch, Edit, LanguageModel, Mean, ModelOutput
from nanogpt_jax.models import gpt, moe
from nanogpt_jax.optim.groups import group
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import create_state, optimizer, train_step
from tests.fakes import fake_model, hyper_of, recipe_of

# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
B, T, V, E, D, L = 4, 6, 13, 4, 8, 2
SMALL: dict[str, Any] = {"n_layer": L, "n_head": 2, "d_model": D, "d_hidden": 12, "max_seq_len": 8}
RUSTY: dict[str, Any] = {"norm": "layer", "norm_gain": True, "bias": True, "activation": "gelu"}


def make(**fields: Any) -> LanguageModel:
    return moe.build(moe.Config(**{**SMALL, **fields}), V, unroll=1)


SHALLOW = make(n_layer=1)


def noise(model: LanguageModel, scale: float = 0.5) -> Any:
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda x: jnp.asarray(draw(scale=scale, size=x.shape), jnp.float32), shapes)


def batch_of(rows: int = B) -> Batch:
    """Rows of random tokens, each with another number of them in the loss."""
    rng = np.random.default_rng(1)
    inputs, targets = rng.integers(V, size=(2, rows, T), dtype=np.int32)
    weights = np.arange(T) < np.array([6, 3, 5, 2])[:rows, None]
    return Batch(inputs, targets, weights.astype(np.float32))


def read(model: LanguageModel, params: Any, **keywords: Any) -> Any:
    run = functools.partial(model.apply, capture=keywords.pop("capture", ()))
    return quick_jit(run)(params, batch_of().inputs_BT, **keywords)


def test_the_chosen_are_the_likeliest_and_their_shares_sum_to_one():
    p_BTE = jnp.array([[[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]]])
    expected = [[[0, 4 / 7, 0, 3 / 7], [0.5, 0.5, 0, 0]]]
    np.testing.assert_allclose(moe.choose(p_BTE, 2), expected, atol=1e-7)
    np.testing.assert_allclose(moe.choose(p_BTE, 4), p_BTE, atol=1e-7)
    np.testing.assert_array_equal(moe.choose(p_BTE, 1), [[[0, 1, 0, 0], [1, 0, 0, 0]]])


@pytest.mark.parametrize("fields", [{}, RUSTY, {"activation": "swiglu", "n_kv_head": 1}])
def test_one_expert_is_the_plain_mlp(fields: dict[str, Any]):
    one, plain = make(n_expert=1, n_active=1, **fields), gpt.build(gpt.Config(**SMALL, **fields), V)
    params = noise(one)
    experts = dict(params["layers"]["experts"])
    assert experts.pop("w_router").shape == (L, D, 1) and "mlp" not in params["layers"]
    del experts["b_router"]
    # The axis of experts is the second of what reads the stream, the first of all others.
    mlp = {n: jnp.squeeze(w, 2 if n in ("w_up", "w_gate") else 1) for n, w in experts.items()}
    rest = {name: layer for name, layer in params["layers"].items() if name != "experts"}
    same = {**params, "layers": {**rest, "mlp": mlp}}
    found, expected = read(one, params), read(plain, same)
    np.testing.assert_allclose(found.hidden_BTD, expected.hidden_BTD, atol=1e-5)
    assert float(jnp.ptp(expected.hidden_BTD)) > 1
    assert float(found.auxiliary[moe.BALANCE].total) == pytest.approx(B * T)


def test_a_mixture_is_the_sum_of_its_experts_weighted_by_their_gates():
    model = make(n_layer=1, **RUSTY)
    params = noise(model)
    sites = ("router", "gates", "mlp_out")
    seen = read(model, params, capture=sites).captured
    assert {name: value.shape for name, value in seen.items()} == {
        "router": (1, B, T, E),
        "gates": (1, B, T, E),
        "mlp_out": (1, B, T, D),
    }
    np.testing.assert_allclose(seen["router"].sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(seen["gates"].sum(-1), 1, atol=1e-6)
    assert (np.count_nonzero(seen["gates"], axis=-1) == 2).all()
    everywhere = jnp.ones(seen["gates"].shape, bool)

    def answer(alone_E: Any) -> Any:
        edits = {"gates": Edit(everywhere, jnp.broadcast_to(alone_E, everywhere.shape))}
        return read(model, params, edits=edits, capture=("mlp_out",)).captured["mlp_out"][0]

    answers_EBTD = jax.vmap(answer)(jnp.eye(E))
    total = jnp.einsum("EBTD,BTE->BTD", answers_EBTD, seen["gates"][0])
    np.testing.assert_allclose(seen["mlp_out"][0], total, atol=1e-4)


def test_the_balance_is_one_when_even_and_the_number_of_experts_when_one_has_all():
    weights = jnp.ones((B, T))
    even = jnp.full((L, B, T, E), 1 / E)
    alone = jnp.broadcast_to(jnp.arange(E) == 2, even.shape).astype(jnp.float32)
    for p_LBTE, expected in ((even, 1.0), (alone, E)):
        total, count = moe.balance(p_LBTE, weights)
        assert float(total / count) == pytest.approx(expected)
        assert float(count) == B * T


def test_the_balance_is_its_formula_over_the_tokens_of_a_row_that_count():
    p_LBTE = jax.nn.softmax(2 * jax.random.normal(jax.random.key(0), (L, B, T, E)))
    weights_BT = np.array(batch_of().weights_BT)
    weights_BT[3] = 0  # a row of padding alone
    expected = 0.0
    for layer in range(L):
        for p_TE, weights_T in zip(np.asarray(p_LBTE[layer]), weights_BT, strict=True):
            inside_TE = p_TE[weights_T > 0]
            if len(inside_TE):
                share_E = np.bincount(inside_TE.argmax(-1), minlength=E) / len(inside_TE)
                expected += len(inside_TE) * E * (share_E @ inside_TE.mean(0)) / L
    total, count = moe.balance(p_LBTE, jnp.asarray(weights_BT))
    assert float(count) == weights_BT.sum() < weights_BT.size
    assert float(total) == pytest.approx(expected, rel=1e-5)
    other = moe.balance(p_LBTE.at[:, weights_BT == 0].set(jnp.eye(E)[0]), jnp.asarray(weights_BT))
    assert float(other.total) == float(total)


def test_an_even_router_leaves_the_model_with_balance_one_and_padding_does_not_count():
    model, params = SHALLOW, noise(SHALLOW)
    flat = {name: jnp.zeros_like(params["layers"]["experts"][name]) for name in ("w_router",)}
    flat["b_router"] = jnp.zeros((1, E))
    experts = {**params["layers"]["experts"], **flat}
    even = {**params, "layers": {**params["layers"], "experts": experts}}
    total, count = read(model, even).auxiliary[moe.BALANCE]
    assert float(total) == pytest.approx(float(count)) == B * T
    weights = jnp.asarray(batch_of().weights_BT)
    everything, counted = read(model, params), read(model, params, weights_BT=weights)
    assert everything.captured == {}
    assert float(everything.auxiliary[moe.BALANCE].total / (B * T)) > 1.01
    assert float(counted.auxiliary[moe.BALANCE].count) == weights.sum()
    np.testing.assert_array_equal(everything.hidden_BTD, counted.hidden_BTD)


def test_rows_add_up_to_their_batch():
    p_LBTE = jax.nn.softmax(2 * jax.random.normal(jax.random.key(0), (L, B, T, E)))
    weights_BT = jnp.asarray(batch_of().weights_BT)
    whole = moe.balance(p_LBTE, weights_BT)
    rows = [moe.balance(p_LBTE[:, row : row + 1], weights_BT[row : row + 1]) for row in range(B)]
    for part in ("total", "count"):
        added = sum(float(getattr(row, part)) for row in rows)
        assert added == pytest.approx(float(getattr(whole, part)), rel=1e-6)


def fake_with_auxiliary() -> LanguageModel:
    """The model of few numbers, with the squared size of its stream for a further loss."""
    model = fake_model(V)

    def apply(params: Any, inputs_BT: Any, *, weights_BT: Any, **keywords: Any) -> ModelOutput:
        output = model.apply(params, inputs_BT, **keywords)
        total = jnp.einsum("BTD,BT->", jnp.square(output.hidden_BTD), weights_BT)
        return output._replace(auxiliary={"size": Mean(total, jnp.sum(weights_BT))})

    return model._replace(apply=apply)


def updated(aux_weight: float, split: str = "whole") -> Any:
    """Parameters and auxiliary sums after SGD at rate 1: the batch whole, or in two parts."""
    accumulate = 2 if split == "accumulated" else 1
    recipe = recipe_of("sgd", fake_with_auxiliary(), V, accumulate=accumulate)
    hyper = {**hyper_of("sgd", momentum=0.0, learning_rate=1.0), "aux_weight": aux_weight}
    state = create_state(recipe, hyper, jax.random.key(0))
    step = functools.partial(train_step, recipe, state, hyper=hyper)
    if split != "devices":
        after, sums = quick_jit(step)(batch_of())
        return after.params, sums.auxiliary
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, B // 2, *leaf.shape[1:]), batch_of())
    add = functools.partial(jax.lax.psum, axis_name="data")
    on_devices = jax.vmap(functools.partial(step, reduce=add), axis_name="data")
    after, sums = jax.tree.map(lambda leaf: leaf[0], quick_jit(on_devices)(halves))
    return after.params, sums.auxiliary


@pytest.mark.slow
def test_accumulation_and_devices_agree_with_one_big_batch():
    whole, off = updated(0.5), updated(0.0)
    assert whole[1] == off[1]  # measured before the update, and unweighted
    changes = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), whole[0], off[0])
    assert max(jax.tree.leaves(changes)) > 1e-2  # so the auxiliary loss is at work
    for other in (updated(0.5, "accumulated"), updated(0.5, "devices")):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), other, whole)


@pytest.mark.slow
def test_what_is_descended_is_the_mean_loss_and_the_weighted_balance():
    batch, weight = batch_of(), 0.5
    recipe = recipe_of("sgd", SHALLOW, V)
    hyper = {**hyper_of("sgd", momentum=0.0, learning_rate=1.0), "aux_weight": weight}
    params = noise(SHALLOW)

    def objective(params: Any) -> Any:
        output = SHALLOW.apply(params, batch.inputs_BT, weights_BT=batch.weights_BT)
        logp = jax.nn.log_softmax(SHALLOW.unembed(params, output.hidden_BTD))
        nats_BT = -jnp.take_along_axis(logp, batch.targets_BT[..., None], -1)[..., 0]
        balance = output.auxiliary[moe.BALANCE]
        mean = jnp.sum(nats_BT * batch.weights_BT) / batch.weights_BT.sum()
        return mean + weight * balance.total / balance.count

    def update(params: Any) -> Any:
        opt_state = optimizer(recipe, hyper).init(params)
        state = TrainState(jnp.int32(0), params, opt_state, jax.random.key(0))
        return train_step(recipe, state, batch, hyper)

    state, sums = quick_jit(update)(params)
    expected = quick_jit(jax.grad(objective))(params)
    found = jax.tree.map(jnp.subtract, params, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
    assert float(jnp.abs(expected["layers"]["experts"]["w_router"]).max()) > 1e-3
    assert float(sums.auxiliary[moe.BALANCE].count) == batch.weights_BT.sum()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_expert": 0}, "model.n_expert=0 must be greater than 0"),
        ({"n_active": 0}, "model.n_active=0 must be greater than 0"),
        ({"n_active": 5}, "model.n_active=5 of model.n_expert=4 experts"),
        ({"aux_weight": -0.1}, "model.aux_weight=-0.1 must be at least 0"),
    ],
)
def test_counts_that_cannot_be_are_refused_by_name(fields: dict[str, Any], words: str):
    config = default_config(model="moe")
    assert resolve(config).model.problems() == []
    with pytest.raises(Exception, match=words):
        resolve(config, [(f"model.{name}", str(value)) for name, value in fields.items()])


def test_a_config_file_that_contradicts_itself_twice_is_told_both():
    config = moe.Config(**{**SMALL, "d_model": 9}, n_active=9)
    assert [line.split("=")[0] for line in config.problems()] == ["model.d_model", "model.n_active"]
    assert dataclasses.replace(config, d_model=8, n_active=4).problems() == []


def test_experts_are_matrices_and_their_biases_are_not():
    roles = group(make(**RUSTY).axes).roles["layers"]["experts"]
    matrices = {name for name, role in roles.items() if role == "matrix"}
    assert matrices == {"w_router", "w_up", "w_down"}
    assert {roles[name] for name in roles.keys() - matrices} == {"vector"}
    sides = group(make(**RUSTY).axes).sides["layers"]["experts"]
    assert (sides["w_up"].inputs, sides["w_up"].outputs) == ((1,), (2, 3))
    assert (sides["w_down"].inputs, sides["w_down"].outputs) == ((1, 2), (3,))
