"""Attention against NumPy in float64, and its chunks against all at once."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import attention

B, H, T, S, C = 2, 4, 3, 5, 6
# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def mask() -> jax.Array:
    """allowed_BTS: a query sees its own key, S - T further on, and by chance the earlier ones."""
    chance = np.random.default_rng(7).random((B, T, S)) < 0.6
    earlier, itself = np.tri(T, S, S - T - 1, dtype=bool), np.eye(T, S, S - T, dtype=bool)
    return jnp.asarray((chance & earlier) | itself)


def attend_in_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: Any) -> Any:
    """Probabilities and mixed values, one head and one query at a time."""
    p_BHTS, y_BHTC = np.zeros((B, H, T, S)), np.zeros((B, H, T, C))
    group = H // k.shape[1]
    for b, h, t in np.ndindex(B, H, T):
        seen = np.flatnonzero(np.asarray(allowed)[b, t])
        scores = k[b, h // group, seen] @ q[b, h, t] / math.sqrt(C)
        weights = np.exp(scores - scores.max())
        p_BHTS[b, h, t, seen] = weights / weights.sum()
        y_BHTC[b, h, t] = p_BHTS[b, h, t] @ v[b, h // group]
    return p_BHTS, y_BHTC


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_is_the_numpy_attention(kv_heads: int):
    q = normal(B, H, T, C)
    k, v = normal(B, kv_heads, S, C, seed=1), normal(B, kv_heads, S, C, seed=2)
    p_BHTS, y_BHTC = attend_in_numpy(q, k, v, mask())
    with jax.enable_x64(True):
        probabilities = quick_jit(attention.attention_probabilities)(q, k, mask())
        attended = quick_jit(attention.attend)(q, k, v, mask())
        mixed = quick_jit(attention.mix)(probabilities, v)
        assert probabilities.dtype == attended.dtype == mixed.dtype == jnp.float64
        np.testing.assert_allclose(probabilities, p_BHTS, atol=1e-12)
        np.testing.assert_allclose(attended, y_BHTC, atol=1e-12)
        np.testing.assert_allclose(mixed, y_BHTC, atol=1e-12)


def test_both_paths_of_attention_have_the_same_gradient():
    qkv = tuple(jnp.asarray(normal(B, n, s, C), jnp.float32) for n, s in ((H, T), (2, S), (2, S)))
    target = jnp.asarray(normal(B, H, T, C, seed=4), jnp.float32)

    def fused(q: Any, k: Any, v: Any) -> Any:
        return jnp.sum(attention.attend(q, k, v, mask()) * target)

    def plain(q: Any, k: Any, v: Any) -> Any:
        return jnp.sum(attention.mix(attention.attention_probabilities(q, k, mask()), v) * target)

    programs = [str(jax.make_jaxpr(path)(*qkv)) for path in (fused, plain)]
    assert programs[0] != programs[1]
    grads = [quick_jit(jax.grad(path, argnums=(0, 1, 2)))(*qkv) for path in (fused, plain)]
    for ours, theirs in zip(*grads, strict=True):
        assert float(jnp.abs(ours).max()) > 0.01
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_large_scores_do_not_overflow_and_a_query_without_keys_is_finite():
    q, k, v = (jnp.asarray(normal(B, H, n, C) * 1e3, jnp.float32) for n in (T, S, S))
    allowed = mask().at[0, 0].set(False)
    assert np.isfinite(attention.attend(q, k, v, allowed)).all()
    assert np.isfinite(attention.attention_probabilities(q, k, allowed)).all()
    grads = quick_jit(jax.grad(lambda q: jnp.sum(attention.attend(q, k, v, allowed))))(q)
    assert np.isfinite(grads).all()


def test_attention_in_bfloat16_computes_its_softmax_in_float32():
    q, k, v = (jnp.asarray(normal(B, H, n, C), jnp.bfloat16) for n in (T, S, S))
    probabilities = attention.attention_probabilities(q, k, mask())
    assert probabilities.dtype == jnp.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-6)
    assert (
        attention.attend(q, k, v, mask()).dtype
        == attention.mix(probabilities, v).dtype
        == jnp.bfloat16
    )
    wide = [np.asarray(x, "float64") for x in (q, k, v)]
    exact = attend_in_numpy(wide[0], wide[1], wide[2], mask())[1]
    np.testing.assert_allclose(
        np.asarray(attention.attend(q, k, v, mask()), "float64"), exact, atol=0.03
    )


def test_the_causal_mask_lets_a_query_see_itself_and_what_came_before():
    assert attention.causal_mask(3).tolist() == [
        [[True, False, False], [True, True, False], [True, True, True]]
    ]


@pytest.mark.parametrize("length", [100, 128, 300])
def test_causal_attention_in_chunks_is_the_same_with_the_same_gradient(length: int):
    rng = np.random.default_rng(0)
    q, k, v, target = (
        jnp.asarray(rng.normal(size=(2, heads, length, 4)), jnp.float32) for heads in (4, 2, 2, 4)
    )
    segments_BT = np.sort(rng.integers(3, size=(2, length)))
    allowed = attention.causal_mask(length) & (segments_BT[:, :, None] == segments_BT[:, None, :])

    def weighed(attend: Any) -> Any:
        def total(q: Any, k: Any, v: Any) -> Any:
            return jnp.sum(attend(q, k, v, allowed) * target)

        return quick_jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(q, k, v)

    (one, gradient), (other, expected) = (
        weighed(attention.attend_causally),
        weighed(attention.attend),
    )
    assert one == pytest.approx(float(other), rel=1e-5)
    for found, wanted in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("length", [32, 64, 75])
@pytest.mark.parametrize("masked", [False, True])
def test_a_long_text_goes_group_by_group_with_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch, length: int, masked: bool
):
    monkeypatch.setattr(attention, "QUERY_CHUNK", 8)
    monkeypatch.setattr(attention, "QUERY_GROUP", 32)
    rng = np.random.default_rng(0)
    q, k, v, target = (
        jnp.asarray(rng.normal(size=(2, heads, length, 4)), jnp.float32) for heads in (4, 2, 2, 4)
    )
    segments_BT = np.sort(rng.integers(3, size=(2, length)))
    allowed = attention.causal_mask(length)
    if masked:
        allowed &= segments_BT[:, :, None] == segments_BT[:, None, :]

    def weighed(attend: Any, allowed: Any) -> Any:
        def total(q: Any, k: Any, v: Any) -> Any:
            return jnp.sum(attend(q, k, v, allowed) * target)

        program = quick_jit(jax.value_and_grad(total, argnums=(0, 1, 2))).lower(q, k, v)
        return program.compile()(q, k, v), "stablehlo.while" in program.as_text()

    (one, gradient), looped = weighed(attention.attend_causally, allowed if masked else None)
    (other, expected), _ = weighed(attention.attend, allowed)
    assert looped == (length > attention.QUERY_GROUP)
    assert one == pytest.approx(float(other), abs=1e-4)
    for found, wanted in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_memory_of_causal_attention_grows_clearly_below_the_square(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(attention, "QUERY_CHUNK", 16)
    monkeypatch.setattr(attention, "QUERY_GROUP", 32)

    def temporary_bytes(length: int) -> int:
        x = jax.ShapeDtypeStruct((1, 2, length, 8), jnp.float32)

        def summed(q: Any, k: Any, v: Any) -> Any:
            return jnp.sum(attention.attend_causally(q, k, v) ** 2)

        gradient = quick_jit(jax.grad(summed, argnums=(0, 1, 2))).lower(x, x, x).compile()
        analysis = gradient.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporary_bytes(512) / temporary_bytes(256) < 2.5
