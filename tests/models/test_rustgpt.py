"""RustGPT's model against NumPy, its parameter formula, and how it starts."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import functional as F
from nanogpt_jax.costs import parameter_count
from nanogpt_jax.interface import LanguageModel
from nanogpt_jax.models.rustgpt import Config, build, standardize

V, T = 11, 7
SMALL: dict[str, Any] = {"n_layer": 2, "d_model": 8, "d_hidden": 12, "max_seq_len": T}
# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def fresh() -> Any:
    """The original's parameters for 533 words, as a run starts with."""
    return quick_jit(build(Config(), 533).init)(jax.random.key(0))


def shapes_of(model: LanguageModel) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0))


def noise(model: LanguageModel) -> Any:
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda leaf: draw(scale=0.5, size=leaf.shape), shapes_of(model))


def standardize_by_hand(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-5)


def logits_by_hand(params: Any, tokens_T: np.ndarray) -> np.ndarray:
    """One row through the model as its description reads: loops over heads and positions."""
    x_TD = params["w_embed"][tokens_T] + params["w_position"][: len(tokens_T)]
    layers, attention = params["layers"], params["layers"]["attention"]
    for layer in range(len(attention["w_q"])):
        heads = []
        for head in range(attention["w_q"].shape[2]):
            q, k, v = (x_TD @ attention[f"w_{name}"][layer, :, head] for name in "qkv")
            mixed = []
            for t in range(len(tokens_T)):
                scores = np.exp(k[: t + 1] @ q[t] / math.sqrt(q.shape[-1]))
                mixed.append(scores @ v[: t + 1] / scores.sum())
            heads.append(np.stack(mixed))
        read_TD = np.concatenate(heads, axis=1)
        if "w_o" in attention:
            w_o = attention["w_o"][layer]
            read_TD = sum(part @ w_o[head] for head, part in enumerate(heads))
        norm, mlp = layers["norm_attention"], layers["mlp"]
        x_TD = norm["gain"][layer] * standardize_by_hand(x_TD + read_TD) + norm["bias"][layer]
        hidden = np.maximum(x_TD @ mlp["w_up"][layer] + mlp["b_up"][layer], 0)
        written_TD = hidden @ mlp["w_down"][layer] + mlp["b_down"][layer]
        norm = layers["norm_mlp"]
        x_TD = norm["gain"][layer] * standardize_by_hand(x_TD + written_TD) + norm["bias"][layer]
    return x_TD @ params["w_head"] + params["b_head"]


@pytest.mark.parametrize(("n_head", "projected"), [(1, False), (4, False), (4, True)])
def test_the_model_is_that_of_numpy(n_head: int, projected: bool):
    config = Config(**SMALL, n_head=n_head, output_projection=projected)
    model = build(config, V)
    params = noise(model)
    assert ("w_o" in params["layers"]["attention"]) == projected
    tokens_T = np.random.default_rng(1).integers(V, size=T)

    def run(params: Any) -> Any:
        return model.unembed(params, model.apply(params, tokens_T[None]).hidden_BTD)[0]

    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    found = quick_jit(run)(single)
    np.testing.assert_allclose(found, logits_by_hand(params, tokens_T), atol=2e-5)


@pytest.mark.parametrize("words", [533, 411, 2])
def test_the_parameters_are_those_of_the_formula(words: int):
    config = Config()
    L, D, Fh, longest = 3, 128, 256, 80
    block = 3 * D * D + 2 * D * Fh + Fh + D + 2 * 2 * D
    expected = (words + longest) * D + L * block + D * words + words
    assert block == 115_584
    assert words != 533 or expected == 78_464 + 3 * 115_584 + 68_757 == 493_973
    assert parameter_count(shapes_of(build(config, words))) == expected
    projected = Config(n_head=8, output_projection=True)
    assert parameter_count(shapes_of(build(projected, words))) == expected + L * D * D


def test_epsilon_is_added_to_the_deviation_and_not_to_the_variance():
    x = np.random.default_rng(0).normal(scale=1e-3, size=(3, 8)).astype("float32")
    np.testing.assert_allclose(standardize(jnp.asarray(x), 1e-5), standardize_by_hand(x), rtol=1e-5)
    assert not np.allclose(F.layer_norm(jnp.asarray(x), 1e-5), standardize_by_hand(x), rtol=0.1)


def test_equal_values_have_a_gradient():
    slope = jax.grad(lambda x: jnp.sum(standardize(x, 1e-5) * jnp.arange(4.0)))(jnp.ones(4))
    assert np.isfinite(slope).all()


def test_matrices_start_as_he_says_tables_small_and_biases_at_zero(fresh: Any):
    attention, mlp = fresh["layers"]["attention"], fresh["layers"]["mlp"]
    matrices = [attention["w_q"], attention["w_v"], mlp["w_up"], fresh["w_head"]]
    for fan_in, matrix in [*((128, matrix) for matrix in matrices), (256, mlp["w_down"])]:
        assert np.std(matrix) == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
    for name in ("w_embed", "w_position"):
        assert np.std(fresh[name]) == pytest.approx(0.02, rel=0.03)
    assert not np.any(fresh["b_head"]) and not np.any(mlp["b_up"])


def test_it_starts_half_the_variance_of_its_logits_above_ln_v(fresh: Any):
    """A head of He's deviation on normed inputs: logits of variance 2, so a nat."""
    model = build(Config(), 533)
    tokens_BT = np.random.default_rng(0).integers(533, size=(8, 80))
    hidden = quick_jit(model.apply)(fresh, tokens_BT).hidden_BTD
    log_p = jax.nn.log_softmax(model.unembed(fresh, hidden))
    assert -float(jnp.mean(log_p)) == pytest.approx(math.log(533) + 1, abs=0.15)


def test_heads_that_do_not_share_the_width_are_refused():
    told = "model.d_model=8 is not a multiple of model.n_head=3"
    assert Config(**SMALL, n_head=3).problems() == [told]
    assert Config().problems() == []
