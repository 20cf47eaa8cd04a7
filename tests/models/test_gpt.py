"""Every switch of `gpt` does something, and what is refused is refused by name.

The table is held against the fields of `Config`: a switch without a row fails.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax.interface import LanguageModel
from nanogpt_jax.models.gpt import Config, build, end_deviations

# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
InitName = Literal["nanochat", "gpt2", "kaiming"]
B, T, V = 2, 6, 13
SMALL = {"n_layer": 1, "n_head": 4, "d_model": 16, "max_seq_len": 8}

# field -> (what the switch needs to matter, what switches it)
SWITCHES: dict[str, tuple[dict[str, Any], Any]] = {
    "n_layer": ({}, 2),
    "n_head": ({}, 2),
    "n_kv_head": ({}, 1),
    "d_model": ({}, 24),
    "d_hidden": ({}, 40),
    "norm": ({}, "layer"),
    "norm_gain": ({}, True),
    "norm_eps": ({}, 0.5),
    "norm_position": ({}, "post"),
    "embed_norm": ({}, False),
    "positions": ({}, "learned"),
    "rope_base": ({}, 100.0),
    "qk_norm": ({}, "off"),
    "qkv_clamp": ({}, 0.2),
    "activation": ({}, "gelu"),
    "bias": ({}, True),
    "tied_head": ({}, True),
    "head_bias": ({}, True),
    "logit_softcap": ({}, 1.0),
    "logit_clamp": ({"logit_softcap": 0.0}, 0.2),
    "dropout": ({}, 0.5),
    "mup_base_head": ({"mup_base_width": 4}, 1),
}
# Each of the other values of a switch differs from all that came before it.
VALUES: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "positions": ({}, ("rope", "learned", "none")),
    "activation": ({}, ("relu2", "gelu", "gelu_tanh", "relu", "swiglu")),
    # Of RMSNorm the order would not matter: a rotation keeps the length.
    "qk_norm": ({"norm": "layer"}, ("off", "after_rope", "before_rope", "before_rope_gain")),
}
# Switches that leave the logits of given parameters alone, and the test of each.
ELSEWHERE = {
    "max_seq_len": "test_the_longest_context_is_the_size_of_the_position_table",
    "init": "test_each_initialisation_draws_otherwise",
    "remat": "test_remat_changes_the_program_and_no_value",
    "mup_base_width": "test_a_base_width_changes_what_a_head_starts_as",  # and tests/test_mup.py
}


def make(**fields: Any) -> LanguageModel:
    return _make(Config(**{**SMALL, **fields}))


@functools.cache
def _make(config: Config) -> LanguageModel:
    return build(config, V)


def noise(model: LanguageModel) -> Any:
    """Parameters of a model, equal in any two models where path and shape are."""

    def draw(path: Any, leaf: Any) -> Any:
        seed = zlib.crc32(jax.tree_util.keystr(path).encode())
        drawn = np.random.default_rng(seed).normal(scale=0.3, size=leaf.shape)
        return jnp.asarray(drawn, jnp.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def initial(**fields: Any) -> Any:
    """The parameters that training starts with."""
    return quick_jit(make(**fields).init)(jax.random.key(0))


def logits(model: LanguageModel, params: Any = None, key: Any = None) -> np.ndarray:
    """Logits of the same tokens."""
    run = program(model.apply, model.unembed)
    return np.asarray(run(noise(model) if params is None else params, key))


@functools.cache
def program(apply: Any, unembed: Any) -> Any:
    """(params, dropout key) -> logits, compiled once."""
    tokens_BT = np.random.default_rng(0).integers(V, size=(B, T)).astype("int32")

    def run(params: Any, key: Any) -> Any:
        return unembed(params, apply(params, tokens_BT, dropout_key=key).hidden_BTD)

    return quick_jit(run)


def test_every_field_of_the_config_has_a_test_of_its_own():
    fields = {field.name for field in dataclasses.fields(Config)}
    assert set(SWITCHES) | set(ELSEWHERE) == fields
    assert not set(SWITCHES) & set(ELSEWHERE)
    assert set(ELSEWHERE.values()) <= set(globals())


@pytest.mark.parametrize("field", SWITCHES)
def test_the_switch_changes_the_logits(field: str):
    needs, value = SWITCHES[field]
    assert getattr(Config(**SMALL, **needs), field) != value
    key = jax.random.key(0) if field == "dropout" else None
    before, after = (logits(make(**fields), key=key) for fields in (needs, {**needs, field: value}))
    assert before.shape == after.shape and np.isfinite(after).all()
    assert np.abs(before - after).max() > 1e-3


@pytest.mark.parametrize("field", VALUES)
def test_all_values_of_the_switch_differ(field: str):
    needs, values = VALUES[field]
    seen = [logits(make(**needs, **{field: value})) for value in values]
    for index, one in enumerate(seen):
        for other in seen[:index]:
            # The tanh of gelu_tanh is a close approximation.
            assert np.abs(one - other).max() > 1e-5


def test_the_order_of_rms_norm_and_rotation_does_not_matter():
    after, before = (make(qk_norm=f"{order}_rope", norm_eps=1e-9) for order in ("after", "before"))
    np.testing.assert_allclose(logits(after), logits(before), atol=1e-5)


def test_the_norms_that_a_switch_names_are_the_norms_in_the_tree():
    def norms(**fields: Any) -> set[str]:
        axes = make(norm_gain=True, **fields).axes
        return {name for name in (*axes, *axes["layers"]) if name.startswith("norm_")}

    blocks = {"norm_attention", "norm_mlp"}
    assert norms() == blocks | {"norm_embed", "norm_final"}
    assert norms(embed_norm=False) == blocks | {"norm_final"}
    assert norms(norm_position="post") == blocks | {"norm_embed"}


def test_one_kv_head_is_that_head_repeated():
    one, many = make(n_kv_head=1), make()
    params = noise(one)
    attention = dict(params["layers"]["attention"])
    assert attention["w_k"].shape == (1, 16, 1, 4)
    for name in ("w_k", "w_v"):
        attention[name] = jnp.repeat(attention[name], 4, axis=2)
    repeated = {**params, "layers": {**params["layers"], "attention": attention}}
    np.testing.assert_allclose(logits(one, params), logits(many, repeated), atol=1e-5)


def test_a_tied_head_is_the_transposed_embedding_and_no_parameter():
    tied, untied = make(tied_head=True), make()
    params = noise(tied)
    assert "w_head" not in params
    same = {**params, "w_head": params["w_embed"].T}
    np.testing.assert_allclose(logits(tied, params), logits(untied, same), atol=1e-5)


def test_dropout_needs_a_key_and_depends_on_nothing_else():
    model, key = make(dropout=0.5), jax.random.key(0)
    np.testing.assert_allclose(logits(model), logits(make()), atol=1e-5)
    assert not np.array_equal(logits(model), logits(model, key=key))
    again, other = (logits(model, key=jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(logits(model, key=key), again)
    assert not np.array_equal(again, other)


def test_caps_bound_the_logits():
    uncapped = logits(make(logit_softcap=0.0))
    np.testing.assert_allclose(logits(make(logit_softcap=1.0)), np.tanh(uncapped), atol=1e-6)
    clamped = np.abs(logits(make(logit_softcap=0.0, logit_clamp=0.2)))
    assert clamped.max() == pytest.approx(0.2) and (clamped < 0.19).any()


def test_the_longest_context_is_the_size_of_the_position_table():
    for longest in (8, 9):
        model = make(positions="learned", max_seq_len=longest)
        assert noise(model)["w_position"].shape == (longest, 16)
        assert model.axes["w_position"] == ("position", "embed")
        tokens_BT = np.zeros((1, longest + 1), "int32")
        with pytest.raises(ValueError, match=f"max_seq_len={longest}"):
            jax.eval_shape(model.apply, noise(model), tokens_BT)
        jax.eval_shape(model.apply, noise(model), tokens_BT[:, 1:])
    assert "w_position" not in make().axes


@pytest.mark.slow
def test_each_initialisation_draws_otherwise():
    drawn = {}
    for init in get_args(InitName):
        params = initial(init=init, d_model=32, n_layer=2)
        outputs = (params["layers"]["attention"]["w_o"], params["layers"]["mlp"]["w_down"])
        inputs = (params["layers"]["attention"]["w_q"], params["layers"]["mlp"]["w_up"])
        groups = (outputs[0], outputs[1], *inputs, params["w_embed"], params["w_head"])
        drawn[init] = [float(np.std(leaf)) for leaf in groups]
    fan_in, wide_fan_in = 32**-0.5, 128**-0.5
    assert drawn["nanochat"] == pytest.approx([0, 0, fan_in, fan_in, 1, 0.001], rel=0.15)
    assert drawn["gpt2"] == pytest.approx([0.01, 0.01, 0.02, 0.02, 0.02, 0.02], rel=0.15)
    half = [fan_in / 2, wide_fan_in / 2, fan_in / 2, fan_in / 2, 1, fan_in / 2]
    assert drawn["kaiming"] == pytest.approx(half, rel=0.15)


def test_a_base_width_changes_what_a_head_starts_as():
    for init in get_args(InitName):
        plain, narrow = (Config(**SMALL, init=init, mup_base_width=base) for base in (0, 4))
        assert end_deviations(narrow)[0] == end_deviations(plain)[0]
        assert end_deviations(narrow)[1] < end_deviations(plain)[1]


def test_a_tied_table_starts_with_rows_apart_and_logits_of_variance_one_at_most():
    for init in get_args(InitName):
        embed, head = end_deviations(Config(**SMALL, init=init, tied_head=True))
        assert embed == head
        assert 0.02 <= head <= SMALL["d_model"] ** -0.5
    drawn = initial(init="nanochat", tied_head=True)["w_embed"]
    assert float(np.std(drawn)) == pytest.approx(SMALL["d_model"] ** -0.5, rel=0.2)


def test_remat_changes_the_program_and_no_value():
    tokens_BT = np.zeros((B, T), "int32")

    def loss(model: LanguageModel, params: Any) -> Any:
        return jnp.mean(jnp.square(model.apply(params, tokens_BT).hidden_BTD))

    params, found, programs = noise(make()), [], []
    for remat in (False, True):
        model = make(remat=remat)
        programs.append(str(jax.make_jaxpr(model.apply)(params, tokens_BT)))
        found.append(quick_jit(jax.grad(functools.partial(loss, model)))(params)["layers"])
    assert programs[0].count("remat") < programs[1].count("remat")
    norms = [float(np.linalg.norm(leaf)) for leaf in jax.tree.leaves(found[0])]
    assert min(norms) > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"d_model": 130}, ["model.d_model=130 is not a multiple of model.n_head=4"]),
        ({"d_model": 20}, ["model.d_model / model.n_head = 5 is odd", "even number"]),
        ({"n_kv_head": 3}, ["model.n_head=4 is not a multiple of model.n_kv_head=3"]),
        ({"n_kv_head": 8}, ["model.n_head=4 is not a multiple of model.n_kv_head=8"]),
        ({"d_model": 130, "n_kv_head": 3}, ["model.d_model=130", "model.n_kv_head=3"]),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(fields: dict[str, Any], words: list[str]):
    told = "; ".join(Config(**{**SMALL, **fields}).problems())
    assert all(word in told for word in words)


def test_an_odd_head_is_refused_only_where_channels_are_paired():
    config = Config(**{**SMALL, "d_model": 20, "positions": "none"})
    assert config.problems() == Config(**SMALL).problems() == []
    assert logits(build(config, V)).shape == (B, T, V)


def test_the_shape_says_what_was_built():
    shape = Config(**SMALL, n_kv_head=2).shape(V)
    assert shape._asdict() == {
        "name": "gpt",
        "vocab_size": V,
        "n_layer": 1,
        "n_head": 4,
        "n_kv_head": 2,
        "d_model": 16,
        "max_seq_len": 8,
    }
    assert Config(**SMALL).shape(V).n_kv_head == 4
