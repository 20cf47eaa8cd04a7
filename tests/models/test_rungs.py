"""What each rung below `gpt` can see, and that each is the rung above it with less."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax import models as model_files
from nanogpt_jax.models import models

V, T = 11, 6
# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def noise(model: model_files.LanguageModel) -> dict:
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda x: jnp.asarray(draw(scale=0.3, size=x.shape), jnp.float32), shapes)


def logits(model: model_files.LanguageModel, params: dict, tokens_BT: np.ndarray) -> np.ndarray:
    run = quick_jit(lambda params: model.unembed(params, model.apply(params, tokens_BT).hidden_BTD))
    return np.asarray(run(params))


def test_embedding_is_a_table_of_bigrams():
    model = model_files.build("embedding", models["embedding"](d_model=5), V)
    params = noise(model)
    assert set(params) == {"w_embed", "w_head"}
    tokens_BT = np.array([[3, 7, 3, 10, 0, 3]])
    scores = logits(model, params, tokens_BT)
    table_VV = np.asarray(params["w_embed"]) @ np.asarray(params["w_head"])
    np.testing.assert_allclose(scores[0], table_VV[tokens_BT[0]], atol=1e-6)


def test_a_head_that_writes_nothing_leaves_token_and_position():
    config = models["single_head"](d_model=6, d_head=4, max_seq_len=T)
    model = model_files.build("single_head", config, V)
    params = noise(model)
    tokens_BT = np.array([[3, 7, 3, 10, 0, 3]])
    hidden = quick_jit(lambda params: model.apply(params, tokens_BT).hidden_BTD[0])
    before = np.asarray(hidden(params))
    params["layers"]["attention"]["w_o"] = jnp.zeros_like(params["layers"]["attention"]["w_o"])
    after = np.asarray(hidden(params))
    table, place = np.asarray(params["w_embed"]), np.asarray(params["w_position"])
    np.testing.assert_allclose(after, table[tokens_BT[0]] + place, atol=1e-6)
    assert not np.allclose(before, after, atol=1e-2)


def test_multi_head_with_one_head_is_single_head():
    single = model_files.build("single_head", models["single_head"](d_model=6, d_head=6), V)
    multi = model_files.build("multi_head", models["multi_head"](d_model=6, n_head=1), V)
    assert single.axes == multi.axes
    params, tokens_BT = noise(single), np.arange(T)[None]
    np.testing.assert_array_equal(
        logits(single, params, tokens_BT), logits(multi, params, tokens_BT)
    )


def test_heads_of_multi_head_share_the_width():
    model = model_files.build("multi_head", models["multi_head"](d_model=12, n_head=3), V)
    attention = jax.eval_shape(model.init, jax.random.key(0))["layers"]["attention"]
    assert attention["w_q"].shape == (1, 12, 3, 4)
    assert attention["w_o"].shape == (1, 3, 4, 12)
    refused = models["multi_head"](d_model=13, n_head=3).problems()
    assert refused == ["model.d_model=13 is not a multiple of model.n_head=3"]


def test_the_others_refuse_nothing():
    for name in ("embedding", "single_head", "multi_head"):
        assert models[name]().problems() == []
