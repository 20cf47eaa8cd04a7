"""configs/rusty_gpt.py: the shapes of rusty-gpt's five models, counted by formula."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import models
from nanogpt_jax.costs import parameter_count
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import Plan, load_config, resolve
from nanogpt_jax.interface import LanguageModel

CONFIG = Path(__file__).parents[2] / "configs" / "rusty_gpt.py"
NAMES = ("embedding", "single_head", "multi_head", "minigpt", "moe")
V, D, T, L, H, E = 1590, 128, 128, 4, 4, 4
LINEAR = D * D + D  # D to D with bias
ENDS = V * D + D * V + V
MLP = D * 4 * D + 4 * D + 4 * D * D + D
GPT_BUT_MLP = ENDS + T * D + L * (4 * LINEAR + 2 * 2 * D) + 2 * D
COUNTS = {
    "embedding": ENDS,
    # The head of 32 channels alone makes the scores.
    "single_head": V * D + 3 * (D * 32 + 32) + 32 * V + V,
    "multi_head": ENDS + 4 * LINEAR,
    "minigpt": GPT_BUT_MLP + L * MLP,
    "moe": GPT_BUT_MLP + L * (E * MLP + D * E + E),
}
# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def plan_of(name: str, **changes: int) -> Plan:
    changed = [(f"model.{field}", str(value)) for field, value in changes.items()]
    return resolve(load_config(f"{CONFIG}:{name}"), changed)


def build(name: str, vocab_size: int = V, **changes: int) -> LanguageModel:
    plan = plan_of(name, **changes)
    return models.build(plan.model_name, plan.model, vocab_size, unroll=1)


@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_are_those_of_the_formula(name: str):
    shapes = jax.eval_shape(build(name).init, jax.random.key(0))
    assert parameter_count(shapes) == COUNTS[name]
    assert shapes["b_head"].shape == (V,) and not np.isclose(COUNTS[name], ENDS + V * D)


def test_the_page_about_models_has_these_counts():
    page = (CONFIG.parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    for name in ("minigpt", "moe"):
        assert f"`rusty_gpt.py:{name}` | {COUNTS[name]:,} |" in page


def test_the_recipe_is_the_originals():
    for name in NAMES:
        plan = plan_of(name)
        shape = plan.model.shape(V)
        deep = name in ("minigpt", "moe")
        assert (shape.d_model, shape.max_seq_len, shape.n_layer) == (
            (D, T, L) if deep else (D, T, 0 if name == "embedding" else 1)
        )
        assert (plan.train.steps, plan.train.batch_size, plan.train.seq_len) == (1000, 32, T)
        assert (plan.eval.every_steps, plan.data.prefetch) == (100, 2)
        assert plan.optimizer.learning_rate == 1e-4
        assert plan.optimizer.clip_norm == (1.0 if deep else 0.0)
        adam = {"b1": 0.9, "b2": 0.999, "eps": 1e-5, "weight_decay": 1e-4}
        assert plan.optimizer_fields == adam
        assert plan.tokenizer.kind == ("bpe" if deep else "char")
    moe: Any = plan_of("moe").model
    assert (moe.n_expert, moe.n_active, moe.aux_weight) == (4, 2, 0.01)


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'minigpt'"):
        load_config(f"{CONFIG}:mini_gpt")
    assert load_config(str(CONFIG)) == load_config(f"{CONFIG}:minigpt")


def noise(model: LanguageModel, scale: float = 0.2) -> Any:
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda x: jnp.asarray(draw(scale=scale, size=x.shape), jnp.float32), shapes)


def linear(x: Any, w: Any, b: Any) -> Any:
    return np.einsum("ti,i...->t...", x, w) + b


def attend(x_TD: np.ndarray, own: dict[str, Any]) -> np.ndarray:
    """The heads' answers side by side, written out with NumPy."""
    q, k, v = (linear(x_TD, own[f"w_{name}"][0], own[f"b_{name}"][0]) for name in "qkv")
    heads = []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head].T / np.sqrt(q.shape[-1])
        scores[np.triu_indices(len(scores), 1)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, head])
    return np.concatenate(heads, axis=-1)


@pytest.mark.parametrize("name", ["embedding", "single_head", "multi_head"])
def test_the_bare_rungs_are_what_their_names_say(name: str):
    model = build(name, 11)
    params = jax.tree.map(np.asarray, noise(model))
    tokens_T = np.array([3, 7, 3, 10, 0, 3])
    x = params["w_embed"][tokens_T]
    if name != "embedding":
        own = params["layers"]["attention"]
        assert ("w_o" in own) == (name == "multi_head")
        x = attend(x, own)
        if name == "multi_head":
            x = x @ own["w_o"][0].reshape(D, D) + own["b_o"][0]
    expected = x @ params["w_head"] + params["b_head"]
    run = quick_jit(lambda p: model.unembed(p, model.apply(p, tokens_T[None]).hidden_BTD))
    np.testing.assert_allclose(run(params)[0], expected, atol=1e-4)
    assert np.ptp(expected) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_new_model_is_near_ln_v_and_its_cache_is_its_full_pass(name: str):
    model = build(name, 11, **({"n_layer": 1} if name in ("minigpt", "moe") else {}))
    params = quick_jit(model.init)(jax.random.key(0))
    tokens_BT = np.random.default_rng(0).integers(11, size=(2, 6))
    run = quick_jit(lambda p, t: model.unembed(p, model.apply(p, t).hidden_BTD))
    logits = np.asarray(run(params, tokens_BT))
    logp = np.asarray(jax.nn.log_softmax(logits))
    loss = -np.take_along_axis(logp, np.roll(tokens_BT, -1)[..., None], -1).mean()
    assert loss == pytest.approx(np.log(11), abs=0.25)
    assert model.empty_cache is not None
    step = quick_jit(lambda p, t, c: model.apply(p, t, cache=c))
    cache, loud = model.empty_cache(2, 6), noise(model)
    full = np.asarray(run(loud, tokens_BT))
    for place in range(0, 6, 2):
        output = step(loud, tokens_BT[:, place : place + 2], cache)
        cache = output.cache
        found = model.unembed(loud, output.hidden_BTD)
        np.testing.assert_allclose(found, full[:, place : place + 2], atol=1e-4, rtol=1e-4)
