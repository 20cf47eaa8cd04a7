"""The modules that own parameters, their sites, and the loop over layers."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import functional as F
from nanogpt_jax import layers
from nanogpt_jax.interface import Edit
from nanogpt_jax.layers import MLP, Attention, Context, Norm, Sites, run_layers, split_layers

L, B, T, D = 3, 2, 4, 5
# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def noise(module: nn.Module, *arguments: Any) -> Any:
    """Parameters of a module, all drawn, unboxed."""
    shapes = jax.eval_shape(lambda: nn.unbox(module.init(jax.random.key(0), *arguments)["params"]))
    return jax.tree.map(lambda leaf: normal(*leaf.shape, seed=leaf.ndim), shapes)


def test_fan_in_uniform_has_the_deviation_it_is_asked_for():
    drawn = np.asarray(layers.fan_in_uniform(16, 0.5)(jax.random.key(0), (100, 100), jnp.float32))
    assert drawn.std() == pytest.approx(0.5 / 4, rel=0.02)
    assert np.abs(drawn).max() <= 0.125 * np.sqrt(3)


@pytest.mark.parametrize(
    "init",
    [layers.zeros, layers.normal(1.0), layers.fan_in_uniform(4, 1.0)],
    ids=["zeros", "normal", "uniform"],
)
def test_parameters_are_float32_and_boxed_with_their_axes(init: layers.Initializer):
    class Table(nn.Module):
        @nn.compact
        def __call__(self) -> Any:
            return layers.param(self, "w", (2, 3), ("vocab", "embed"), init)

    with jax.enable_x64(True):  # where JAX's own initialisers would give float64
        box = jax.eval_shape(lambda: Table().init(jax.random.key(0)))["params"]["w"]
    assert box.names == ("vocab", "embed")
    assert (box.value.shape, box.value.dtype) == ((2, 3), jnp.float32)


@pytest.mark.parametrize(
    ("kind", "gain", "bias", "names"),
    [
        ("rms", False, False, set()),
        ("rms", True, True, {"gain"}),
        ("layer", True, False, {"gain"}),
        ("layer", False, True, {"bias"}),
        ("layer", True, True, {"gain", "bias"}),
    ],
)
def test_a_norm_has_the_parameters_it_is_asked_for(
    kind: Any, gain: bool, bias: bool, names: set[str]
):
    norm, x = Norm(kind, 1e-6, gain, bias), normal(B, T, D)
    params = noise(norm, x) if names else {}
    assert set(params) == names
    fresh = nn.unbox(norm.init(jax.random.key(0), x))
    bare = Norm(kind, 1e-6, False, False).apply({}, x)
    np.testing.assert_array_equal(norm.apply(fresh, x), bare)
    expected = np.asarray(bare) * params.get("gain", 1.0) + params.get("bias", 0.0)
    np.testing.assert_allclose(np.asarray(norm.apply({"params": params}, x)), expected, atol=1e-6)


def test_sites_pass_on_note_and_replace():
    value = jnp.arange(4.0)
    quiet = Sites((), None)
    assert quiet("residual", value) is value
    assert quiet.captured() == {}
    edit = Edit(jnp.array([True, False, False, True]), jnp.full(4, -1.0))
    sites = Sites(("residual",), {"residual": edit})
    assert sites("residual", value).tolist() == [-1, 1, 2, -1]
    assert sites.captured()["residual"].tolist() == [-1, 1, 2, -1]
    assert [Sites(*asked).wants("here") for asked in ((("here",), None), ((), {"here": edit}))]
    assert not quiet.wants("here")


def test_an_edit_keeps_the_dtype_of_what_it_edits():
    edit = Edit(jnp.ones(3, bool), jnp.ones(3, jnp.float32))
    assert Sites((), {"here": edit})("here", jnp.zeros(3, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("asked", [(("mlp_aut",), None), ((), {"mlp_aut": None})])
def test_a_site_that_was_never_passed_is_refused_with_the_nearest(asked: Any):
    sites = Sites(*asked)
    sites("mlp_out", jnp.zeros(1))
    with pytest.raises(ValueError, match="site='mlp_aut' is not known; did you mean 'mlp_out'"):
        sites.captured()


def toy_block(params: Any, x: Any, context: Context) -> Any:
    """Shows each thing that a layer is given: parameters, cache, edits, key."""
    noise = 0.0 if context.key is None else jax.random.normal(context.key, x.shape)
    sites = Sites(("residual",), context.edits)
    x = sites("residual", x)
    cache = None if context.cache is None else (context.cache[0] + 1, context.cache[1] + x)
    return x * params["w"] + noise, (cache, sites.captured())


def toy_layers(layers: Any, contexts: Context, **keywords: Any) -> Any:
    keywords = {"n_layer": L, "unroll": 1, **keywords}
    return run_layers(toy_block, layers, normal(B, D), contexts, **keywords)


def toy_run(layers: Any, contexts: Context, **keywords: Any) -> Any:
    return quick_jit(functools.partial(toy_layers, **keywords))(layers, contexts)


def test_a_scan_a_loop_and_a_checkpointed_scan_over_layers_agree():
    stacked = {"w": normal(L, D, seed=1)}
    edits = {"residual": Edit(normal(L, 1, D, seed=2) > 1, normal(L, 1, D, seed=3))}
    contexts = Context(edits=edits, key=jax.random.split(jax.random.key(0), L))
    apart = split_layers(stacked, L)
    assert isinstance(apart, tuple) and len(apart) == L
    programs = [str(jax.make_jaxpr(toy_layers)(tree, contexts)) for tree in (stacked, apart)]
    assert ["scan[" in program for program in programs] == [True, False]
    x, (caches, captured) = toy_run(stacked, contexts)
    assert caches is None and captured["residual"].shape == (L, B, D)
    others = [toy_run(apart, contexts), toy_run(stacked, contexts, remat=True)]
    for other in (*others, toy_run(stacked, contexts, unroll=L)):
        np.testing.assert_allclose(other[0], x, atol=1e-6)
        np.testing.assert_allclose(other[1][1]["residual"], captured["residual"], atol=1e-6)
    # In order, each layer with its own weights: the product of all, where nothing is edited.
    plain = toy_run(stacked, Context())[0]
    np.testing.assert_allclose(plain, normal(B, D) * stacked["w"].prod(0), atol=1e-6)
    assert not np.allclose(plain, x)


def test_each_layer_gets_its_own_cache_and_gives_it_back():
    stacked = {"w": normal(L, D, seed=1)}
    buffers = tuple((jnp.full(2, 10.0 * i), jnp.zeros((B, D))) for i in range(L))
    contexts = Context(cache=buffers)
    for tree in (stacked, split_layers(stacked, L)):
        _, (caches, captured) = toy_run(tree, contexts)
        assert isinstance(caches, tuple)
        assert [cache[0].tolist() for cache in caches] == [[1, 1], [11, 11], [21, 21]]
        for layer, cache in enumerate(caches):
            np.testing.assert_array_equal(cache[1], captured["residual"][layer])


def test_places_and_layers_drop_different_shares():
    x, key = jnp.ones((50, 50)), jax.random.key(0)
    here, there = (layers.drop(x, 0.5, key, name) for name in ("here", "there"))
    assert not np.array_equal(here, there)
    np.testing.assert_array_equal(layers.drop(x, 0.5, key, "here"), here)
    assert layers.drop(x, 0.5, None, "here") is x
    assert layers.drop(x, 0.0, key, "here") is x


def test_the_mlp_is_two_products_around_an_activation_and_swiglu_gates():
    x = normal(B, T, D)

    def both(activation: str) -> Any:
        mlp = MLP(7, activation, layers.normal(1.0), layers.zeros, bias=True)
        params = noise(mlp, x)
        assert mlp.init_out is layers.zeros
        return params, np.asarray(mlp.apply({"params": params}, x))

    p, y = both("relu2")
    assert set(p) == {"w_up", "b_up", "w_down", "b_down"}
    hidden = np.maximum(x @ p["w_up"] + p["b_up"], 0) ** 2
    np.testing.assert_allclose(y, hidden @ p["w_down"] + p["b_down"], rtol=1e-4, atol=1e-4)
    p, y = both("swiglu")
    assert set(p) == {"w_up", "b_up", "w_gate", "b_gate", "w_down", "b_down"}
    gate = np.asarray(x @ p["w_gate"] + p["b_gate"])
    hidden = gate / (1 + np.exp(-gate)) * (x @ p["w_up"] + p["b_up"])
    np.testing.assert_allclose(y, hidden @ p["w_down"] + p["b_down"], rtol=1e-4, atol=1e-4)


def test_attention_drops_probabilities_and_shows_them_before():
    attention = Attention(2, 1, 4, layers.normal(1.0), layers.normal(1.0), dropout=0.5)
    x, positions = normal(B, T, D), jnp.arange(T)[None]
    allowed = jnp.tri(T, dtype=bool)[None]
    arguments = (x, positions, allowed)
    params = {"params": noise(attention, *arguments, Context(), Sites((), None))}

    @quick_jit
    def run(key: Any) -> Any:
        sites = Sites(("attention",), None)
        y, _ = attention.apply(params, *arguments, Context(key=key), sites)
        return y, sites.captured()

    dropped, seen = run(jax.random.key(0))
    np.testing.assert_allclose(seen["attention"].sum(-1), 1.0, atol=1e-6)
    kept, _ = run(None)
    assert not np.allclose(dropped, kept, atol=1e-2)


def test_a_gain_of_keys_comes_after_their_norm_and_before_the_rotation():
    init = layers.normal(1.0)
    attention = Attention(
        2, 2, 4, init, init, rope_base=100.0, qk_norm="before_rope_gain", norm="layer"
    )
    x, positions = normal(B, T, D), jnp.arange(T)[None].repeat(B, 0)
    empty = jnp.zeros((B, 2, T, 4))
    arguments = (x, positions, jnp.ones((1, T, T), bool), Context(cache=(empty, empty)))
    params = noise(attention, *arguments, Sites((), None))
    assert set(params) == {"w_q", "w_k", "w_v", "w_o", "gain_q", "gain_k"}
    run = quick_jit(lambda params: attention.apply(params, *arguments, Sites((), None))[1])
    keys, values = run({"params": params})
    made = jnp.einsum("BTD,DNC->BNTC", x, params["w_k"])
    by_hand = F.rotate(F.layer_norm(made, 1e-6) * params["gain_k"], positions, 100.0)
    np.testing.assert_allclose(keys, by_hand, rtol=1e-5, atol=1e-5)
    otherwise = F.rotate(F.layer_norm(made, 1e-6), positions, 100.0) * params["gain_k"]
    assert np.abs(keys - otherwise).max() > 0.1, "the order matters"
    made = jnp.einsum("BTD,DNC->BNTC", x, params["w_v"])
    np.testing.assert_allclose(values, made, rtol=1e-5, atol=1e-5)


def test_the_clamp_bounds_queries_keys_and_values():
    def values(clamp: float) -> Any:
        attention = Attention(
            2, 2, 4, layers.normal(9.0), layers.normal(1.0), rope_base=100.0, qkv_clamp=clamp
        )
        empty = jnp.zeros((B, 2, T, 4))
        context = Context(cache=(empty, empty))
        arguments = (normal(B, T, D), jnp.arange(T)[None].repeat(B, 0), jnp.ones((1, T, T), bool))
        params = noise(attention, *arguments, context, Sites((), None))
        run = quick_jit(
            lambda params: attention.apply(params, *arguments, context, Sites((), None))[1]
        )
        return run({"params": params})

    keys, written = values(0.5)
    assert float(jnp.abs(written).max()) == 0.5
    assert float(jnp.abs(keys).max()) <= 0.5 * 2**0.5 + 1e-6  # a rotation mixes two channels
    assert float(jnp.abs(values(0.0)[1]).max()) > 1
