"""The mathematics against NumPy in float64, and the properties that the docstrings promise."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, AxisType

from nanogpt_jax import functional as F

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


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: Any) -> Any:
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
    p_BHTS, y_BHTC = attention(q, k, v, mask())
    with jax.enable_x64(True):
        probabilities = quick_jit(F.attention_probabilities)(q, k, mask())
        attended = quick_jit(F.attend)(q, k, v, mask())
        mixed = quick_jit(F.mix)(probabilities, v)
        assert probabilities.dtype == attended.dtype == mixed.dtype == jnp.float64
        np.testing.assert_allclose(probabilities, p_BHTS, atol=1e-12)
        np.testing.assert_allclose(attended, y_BHTC, atol=1e-12)
        np.testing.assert_allclose(mixed, y_BHTC, atol=1e-12)


def test_both_paths_of_attention_have_the_same_gradient():
    qkv = tuple(jnp.asarray(normal(B, n, s, C), jnp.float32) for n, s in ((H, T), (2, S), (2, S)))
    target = jnp.asarray(normal(B, H, T, C, seed=4), jnp.float32)

    def fused(q: Any, k: Any, v: Any) -> Any:
        return jnp.sum(F.attend(q, k, v, mask()) * target)

    def plain(q: Any, k: Any, v: Any) -> Any:
        return jnp.sum(F.mix(F.attention_probabilities(q, k, mask()), v) * target)

    programs = [str(jax.make_jaxpr(path)(*qkv)) for path in (fused, plain)]
    assert programs[0] != programs[1]
    grads = [quick_jit(jax.grad(path, argnums=(0, 1, 2)))(*qkv) for path in (fused, plain)]
    for ours, theirs in zip(*grads, strict=True):
        assert float(jnp.abs(ours).max()) > 0.01
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_large_scores_do_not_overflow_and_a_query_without_keys_is_finite():
    q, k, v = (jnp.asarray(normal(B, H, n, C) * 1e3, jnp.float32) for n in (T, S, S))
    allowed = mask().at[0, 0].set(False)
    assert np.isfinite(F.attend(q, k, v, allowed)).all()
    assert np.isfinite(F.attention_probabilities(q, k, allowed)).all()
    grads = quick_jit(jax.grad(lambda q: jnp.sum(F.attend(q, k, v, allowed))))(q)
    assert np.isfinite(grads).all()


def test_attention_in_bfloat16_computes_its_softmax_in_float32():
    q, k, v = (jnp.asarray(normal(B, H, n, C), jnp.bfloat16) for n in (T, S, S))
    probabilities = F.attention_probabilities(q, k, mask())
    assert probabilities.dtype == jnp.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-6)
    assert F.attend(q, k, v, mask()).dtype == F.mix(probabilities, v).dtype == jnp.bfloat16
    wide = [np.asarray(x, "float64") for x in (q, k, v)]
    exact = attention(wide[0], wide[1], wide[2], mask())[1]
    np.testing.assert_allclose(np.asarray(F.attend(q, k, v, mask()), "float64"), exact, atol=0.03)


def test_norms_are_those_of_numpy():
    x, eps = normal(3, 8) * 5 + 2, 0.1
    centred = x - x.mean(-1, keepdims=True)
    rms = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    layer = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    with jax.enable_x64(True):
        np.testing.assert_allclose(F.rms_norm(jnp.array(x), eps), rms, atol=1e-14)
        np.testing.assert_allclose(F.layer_norm(jnp.array(x), eps), layer, atol=1e-14)


@pytest.mark.parametrize("norm", [F.rms_norm, F.layer_norm])
def test_norms_work_in_float32_and_return_the_dtype_they_got(norm: Any):
    x = jnp.asarray(normal(3, 512) + 100, jnp.bfloat16)  # the mean square of bfloat16 would drift
    found, exact = norm(x, 1e-6), norm(x.astype(jnp.float32), 1e-6)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


@given(shift=st.integers(0, 1000), distance=st.integers(-20, 20), seed=st.integers(0, 2**32 - 1))
def test_rotation_keeps_lengths_and_depends_on_distance_alone(shift: int, distance: int, seed: int):
    q, k = jnp.asarray(np.random.default_rng(seed).normal(size=(2, 1, 1, 1, 8)), jnp.float32)

    def product(at: int) -> float:
        turned_q = F.rotate(q, jnp.array([[at + distance]]), 10000.0)
        turned_k = F.rotate(k, jnp.array([[at]]), 10000.0)
        assert float(jnp.linalg.norm(turned_q)) == pytest.approx(
            float(jnp.linalg.norm(q)), rel=1e-5
        )
        return float(jnp.sum(turned_q * turned_k))

    assert product(shift) == pytest.approx(product(0), abs=5e-3)


def test_rotation_pairs_halves_in_nanochats_direction():
    x = normal(1, 2, 3, 6)
    positions = [[0, 1, 5]]
    turned = F.rotate(jnp.asarray(x, jnp.float32), jnp.array(positions), 100.0)
    assert turned.dtype == jnp.float32
    np.testing.assert_allclose(turned[:, :, 0], x[:, :, 0], atol=1e-6)
    for t, c in np.ndindex(3, 3):
        angle = positions[0][t] * 100.0 ** (-2 * c / 6)
        cos, sin = math.cos(angle), math.sin(angle)
        first, second = x[0, :, t, c], x[0, :, t, c + 3]
        np.testing.assert_allclose(turned[0, :, t, c], first * cos + second * sin, atol=1e-5)
        np.testing.assert_allclose(turned[0, :, t, c + 3], second * cos - first * sin, atol=1e-5)


@given(st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=3))
def test_positions_restart_with_every_document(rows: list[list[int]]):
    expected = []
    for row in rows:
        places: list[int] = []
        for index, segment in enumerate(row):
            follows = index > 0 and row[index - 1] == segment
            places.append(places[-1] + 1 if follows else 0)
        expected.append(places)
    padded = rows + [[0] * 7] * (3 - len(rows))  # one shape, one compilation
    assert F.segment_positions(jnp.array(padded))[: len(rows)].tolist() == expected


def test_the_causal_mask_lets_a_query_see_itself_and_what_came_before():
    assert F.causal_mask(3).tolist() == [
        [[True, False, False], [True, True, False], [True, True, True]]
    ]


def test_softcap_is_the_identity_near_zero_and_bounded_far_away():
    x = jnp.array([-1e6, -0.01, 0.0, 0.01, 1e6])
    np.testing.assert_allclose(F.softcap(x, 15.0), [-15, -0.01, 0, 0.01, 15], atol=1e-6)


def test_activations_are_their_formulas():
    x = np.linspace(-4, 4, 41)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    formulas = {
        "relu": np.maximum(x, 0),
        "relu2": np.maximum(x, 0) ** 2,
        "gelu": x * np.array([(1 + math.erf(each / math.sqrt(2))) / 2 for each in x]),
        "gelu_tanh": x * (1 + np.tanh(inner)) / 2,
    }
    assert set(formulas) == set(F.ACTIVATIONS)
    for name, values in formulas.items():
        found = F.ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(found, values, atol=2e-6)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    x = jnp.ones((100, 200), jnp.bfloat16)
    dropped, other = (F.dropout(x, 0.2, jax.random.key(seed)) for seed in (0, 1))
    assert dropped.dtype == jnp.bfloat16
    assert set(np.unique(np.asarray(dropped, "float32"))) == {0.0, 1.25}
    assert float((dropped == 0).mean()) == pytest.approx(0.2, abs=0.01)
    assert not np.array_equal(dropped, other)


@pytest.mark.parametrize(
    ("dtype", "wide"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_at_least_float32_widens_and_never_narrows(dtype: str, wide: str):
    with jax.enable_x64(True):
        assert F.at_least_float32(jnp.ones(1, dtype)).dtype == wide


def test_constrain_speaks_only_to_a_mesh_that_divides_the_rows():
    def constrained(rows: int) -> bool:
        x = jax.ShapeDtypeStruct((rows, 4, 3), jnp.float32)
        return "sharding_constraint" in str(jax.make_jaxpr(lambda x: F.constrain(x))(x))

    assert not constrained(6)
    names = ("data", "fsdp", "tensor")
    with jax.sharding.use_abstract_mesh(AbstractMesh((3, 2, 2), names, (AxisType.Auto,) * 3)):
        assert [constrained(rows) for rows in (1, 4, 6, 12)] == [False, False, True, True]
    with jax.sharding.use_abstract_mesh(AbstractMesh((2,), ("devices",), (AxisType.Auto,))):
        assert not constrained(6)


@pytest.mark.parametrize("length", [100, 128, 300])
def test_causal_attention_in_chunks_is_the_same_with_the_same_gradient(length: int):
    rng = np.random.default_rng(0)
    q, k, v, target = (
        jnp.asarray(rng.normal(size=(2, heads, length, 4)), jnp.float32) for heads in (4, 2, 2, 4)
    )
    segments_BT = np.sort(rng.integers(3, size=(2, length)))
    allowed = F.causal_mask(length) & (segments_BT[:, :, None] == segments_BT[:, None, :])

    def weighed(attend: Any) -> Any:
        def total(q: Any, k: Any, v: Any) -> Any:
            return jnp.sum(attend(q, k, v, allowed) * target)

        return quick_jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(q, k, v)

    (one, gradient), (other, expected) = weighed(F.attend_causally), weighed(F.attend)
    assert one == pytest.approx(float(other), rel=1e-5)
    for found, wanted in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("length", [32, 64, 75])
@pytest.mark.parametrize("masked", [False, True])
def test_a_long_text_goes_group_by_group_with_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch, length: int, masked: bool
):
    monkeypatch.setattr(F, "QUERY_CHUNK", 8)
    monkeypatch.setattr(F, "QUERY_GROUP", 32)
    rng = np.random.default_rng(0)
    q, k, v, target = (
        jnp.asarray(rng.normal(size=(2, heads, length, 4)), jnp.float32) for heads in (4, 2, 2, 4)
    )
    segments_BT = np.sort(rng.integers(3, size=(2, length)))
    allowed = F.causal_mask(length)
    if masked:
        allowed &= segments_BT[:, :, None] == segments_BT[:, None, :]

    def weighed(attend: Any, allowed: Any) -> Any:
        def total(q: Any, k: Any, v: Any) -> Any:
            return jnp.sum(attend(q, k, v, allowed) * target)

        program = quick_jit(jax.value_and_grad(total, argnums=(0, 1, 2))).lower(q, k, v)
        return program.compile()(q, k, v), "stablehlo.while" in program.as_text()

    (one, gradient), looped = weighed(F.attend_causally, allowed if masked else None)
    (other, expected), _ = weighed(F.attend, allowed)
    assert looped == (length > F.QUERY_GROUP)
    assert one == pytest.approx(float(other), abs=1e-4)
    for found, wanted in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_memory_of_causal_attention_grows_clearly_below_the_square(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(F, "QUERY_CHUNK", 16)
    monkeypatch.setattr(F, "QUERY_GROUP", 32)

    def temporary_bytes(length: int) -> int:
        x = jax.ShapeDtypeStruct((1, 2, length, 8), jnp.float32)

        def summed(q: Any, k: Any, v: Any) -> Any:
            return jnp.sum(F.attend_causally(q, k, v) ** 2)

        gradient = quick_jit(jax.grad(summed, argnums=(0, 1, 2))).lower(x, x, x).compile()
        analysis = gradient.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporary_bytes(512) / temporary_bytes(256) < 2.5


def test_a_product_in_bfloat16_and_its_gradients_keep_every_bit_of_their_sums():
    """The wide side, a parameter, gets its gradient in float32; the narrow one in its own dtype."""
    x_BTD = jnp.asarray(normal(B, T, 64), jnp.bfloat16)
    w_DF, dy_BTF = jnp.asarray(normal(64, 8)), normal(B, T, 8, seed=2)
    y_BTF, gradients = jax.vjp(F.linear_wide, x_BTD, w_DF)
    dx_BTD, dw_DF = gradients(jnp.asarray(dy_BTF, y_BTF.dtype))
    assert (y_BTF.dtype, dx_BTD.dtype, dw_DF.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    x, w, dy = (
        np.asarray(jnp.asarray(each, jnp.bfloat16), "float64") for each in (x_BTD, w_DF, dy_BTF)
    )
    np.testing.assert_allclose(y_BTF, x @ w, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dw_DF, np.einsum("BTD,BTF->DF", x, dy), rtol=1e-5, atol=1e-5)
    assert F.linear(x_BTD, w_DF).dtype == jnp.bfloat16
    rounded = np.asarray(jnp.asarray(dy @ w.T, jnp.bfloat16), "float32")
    np.testing.assert_allclose(np.asarray(dx_BTD, "float32"), rounded, rtol=1e-2, atol=1e-6)
    narrow = jax.grad(lambda w: jnp.sum((x_BTD @ w.astype(x_BTD.dtype)) * dy_BTF))(w_DF)
    assert not np.allclose(narrow, dw_DF, rtol=1e-5, atol=1e-5), "what plain products lose"


def test_a_product_of_wide_arrays_is_einsum():
    with jax.enable_x64(True):
        a_BTC, b_BSC = jnp.asarray(normal(B, T, C)), jnp.asarray(normal(B, S, C, seed=1))
        y_BTS = F.contract("BTC,BSC->BTS", a_BTC, b_BSC)
        assert y_BTS.dtype == jnp.float64
        np.testing.assert_array_equal(y_BTS, jnp.einsum("BTC,BSC->BTS", a_BTC, b_BSC))


@pytest.mark.parametrize("turned", [False, True])
def test_products_in_bfloat16_and_their_gradients_run_however_the_weights_lie(turned: bool):
    """A tied head is a transposed table: XLA's CPU runtime lacks some products of bfloat16."""
    x_BTD = jnp.asarray(normal(B, 17, 15), jnp.bfloat16)
    w = jnp.asarray(normal(15, 16).T if turned else normal(15, 16), jnp.float32)

    def summed(x_BTD: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.sum(F.linear_wide(x_BTD, w.T if turned else w) ** 2)

    found = jax.jit(jax.grad(summed, argnums=(0, 1)))(x_BTD, w)
    wanted = jax.grad(summed, argnums=(0, 1))(x_BTD.astype(jnp.float32), w)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other, rtol=0.1, atol=1.0)
