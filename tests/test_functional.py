"""The mathematics against NumPy in float64, and the properties that the docstrings promise."""

from __future__ import annotations

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

B, T, S, C = 2, 3, 5, 6


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


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
