"""Models of transformers with the same weights give the same logits: the truth from outside."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax.models.gpt import Config, build

pytestmark = pytest.mark.parity

B, T = 2, 12


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers(torch: Any) -> Any:
    return pytest.importorskip("transformers")


def draw(config: Config, vocab_size: int) -> tuple[Any, Any]:
    """The model, and parameters large enough that every part of it matters."""
    model = build(config, vocab_size)
    leaves, tree = jax.tree.flatten(jax.eval_shape(model.init, jax.random.key(0)))
    noise = np.random.default_rng(0)
    drawn = [noise.normal(scale=0.2, size=leaf.shape).astype("float32") for leaf in leaves]
    return model, jax.tree.unflatten(tree, drawn)


def assert_same_logits(torch: Any, theirs: Any, weights: dict[str, Any], model: Any, params: Any):
    """`weights` fill every tensor of `theirs`, and its logits are then ours."""
    missing, unexpected = theirs.load_state_dict(
        {name: torch.tensor(np.ascontiguousarray(leaf)) for name, leaf in weights.items()},
        strict=False,
    )
    tied = {name for name in missing if name == "lm_head.weight"}
    assert (set(missing) - tied, unexpected) == (set(), [])
    tokens_BT = np.random.default_rng(1).integers(theirs.config.vocab_size, size=(B, T))
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(tokens_BT)).logits.numpy()
    params = jax.tree.map(jnp.asarray, params)
    ours = model.unembed(params, model.apply(params, tokens_BT).hidden_BTD)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("kv_heads", "vocab_size", "fields"),
    [
        pytest.param(1, 50, {}, id="multi-query"),
        pytest.param(2, 37, {"n_layer": 3, "d_hidden": 56}, id="grouped-odd-vocabulary"),
        pytest.param(4, 64, {"rope_base": 500.0, "logit_softcap": 4.0}, id="multi-head"),
    ],
)
def test_minigpts_block_is_nanochats(
    torch: Any, transformers: Any, kv_heads: int, vocab_size: int, fields: dict[str, Any]
):
    config = Config(
        **{"n_layer": 2, "n_head": 4, "n_kv_head": kv_heads, "d_model": 32, "max_seq_len": 16}
        | fields
    )
    model, params = draw(config, vocab_size)
    theirs = transformers.NanoChatForCausalLM(
        transformers.NanoChatConfig(
            vocab_size=vocab_size,
            hidden_size=config.d_model,
            intermediate_size=config.d_hidden or 4 * config.d_model,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            num_key_value_heads=kv_heads,
            max_position_embeddings=config.max_seq_len,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            final_logit_softcapping=config.logit_softcap,
        )
    )
    weights = {
        "model.embed_tokens.weight": params["w_embed"],
        "lm_head.weight": params["w_head"].T,
    }
    attention, mlp = params["layers"]["attention"], params["layers"]["mlp"]
    for layer in range(config.n_layer):
        at = f"model.layers.{layer}"
        for name in "qkv":
            w_DNC = attention[f"w_{name}"][layer]
            weights[f"{at}.self_attn.{name}_proj.weight"] = w_DNC.reshape(len(w_DNC), -1).T
        w_HCD = attention["w_o"][layer]
        weights[f"{at}.self_attn.o_proj.weight"] = w_HCD.reshape(-1, config.d_model).T
        weights[f"{at}.mlp.fc1.weight"] = mlp["w_up"][layer].T
        weights[f"{at}.mlp.fc2.weight"] = mlp["w_down"][layer].T
    assert_same_logits(torch, theirs, weights, model, params)


def test_gpt2_classics_block_is_gpt2s(torch: Any, transformers: Any):
    config = Config(
        n_layer=2,
        n_head=4,
        d_model=32,
        max_seq_len=16,
        norm="layer",
        norm_gain=True,
        norm_eps=1e-5,
        embed_norm=False,
        positions="learned",
        qk_norm="off",
        activation="gelu_tanh",
        bias=True,
        tied_head=True,
        logit_softcap=0.0,
        init="gpt2",
    )
    model, params = draw(config, 41)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=41, n_positions=config.max_seq_len, n_embd=32, n_layer=2, n_head=4
        )
    )
    weights = {
        "transformer.wte.weight": params["w_embed"],
        "transformer.wpe.weight": params["w_position"],
        "transformer.ln_f.weight": params["norm_final"]["gain"],
        "transformer.ln_f.bias": params["norm_final"]["bias"],
    }
    for layer in range(config.n_layer):
        tree = jax.tree.map(lambda leaf, i=layer: leaf[i], params["layers"])
        attention, mlp, at = tree["attention"], tree["mlp"], f"transformer.h.{layer}"
        for ours, name in (("norm_attention", "ln_1"), ("norm_mlp", "ln_2")):
            weights[f"{at}.{name}.weight"] = tree[ours]["gain"]
            weights[f"{at}.{name}.bias"] = tree[ours]["bias"]
        # Conv1D keeps (in, out); queries, keys and values stand side by side.
        w_qkv = [attention[f"w_{name}"].reshape(32, 32) for name in "qkv"]
        weights[f"{at}.attn.c_attn.weight"] = np.concatenate(w_qkv, axis=1)
        b_qkv = [attention[f"b_{name}"].reshape(32) for name in "qkv"]
        weights[f"{at}.attn.c_attn.bias"] = np.concatenate(b_qkv)
        weights[f"{at}.attn.c_proj.weight"] = attention["w_o"].reshape(32, 32)
        weights[f"{at}.attn.c_proj.bias"] = attention["b_o"]
        for ours, name in (("up", "c_fc"), ("down", "c_proj")):
            weights[f"{at}.mlp.{name}.weight"] = mlp[f"w_{ours}"]
            weights[f"{at}.mlp.{name}.bias"] = mlp[f"b_{ours}"]
    assert_same_logits(torch, theirs, weights, model, params)
