"""The mathematics of a transformer, on arrays: no parameters, no modules, no state.

Attention has a file of its own. Shapes live in names: B batch, T position, D width, N heads of
either kind, C channels per head. Reductions run in at least float32 and return the dtype of their
input, so that float64 contracts hold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec

from nanogpt_jax.interface import Array, Key

# The mesh axes that rows of a batch are split over.
BATCH = ("data", "fsdp")


def at_least_float32(x: Array) -> Array:
    """`x` in float32, or in its own dtype when that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def rms_norm(x: Array, eps: float) -> Array:
    """x / sqrt(mean(x²) + eps) over the last axis (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    wide = at_least_float32(x)
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return (wide * scale).astype(x.dtype)


def layer_norm(x: Array, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) over the last axis (Ba et al. 2016, arXiv:1607.06450)."""
    wide = at_least_float32(x)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + eps)).astype(x.dtype)


def linear(x: Array, w: Array) -> Array:
    """The last axis of `x` times the first of `w`, in the dtype of `x`; `linear_wide` rounded."""
    return linear_wide(x, w).astype(x.dtype)


def linear_wide(x: Array, w: Array) -> Array:
    """The last axis of `x` times the first of `w`, in at least float32: one product of matrices.

    The positions become the rows of one matrix first, so that the gradient of `w` is a product that
    reads both sides as they lie. With batch and position apart XLA writes a transposed copy of each
    activation: 13 of the 46 ms of a step on CPU (4 layers of 128).
    """
    y_NO = contract("NI,IO->NO", x.reshape(-1, x.shape[-1]), w.reshape(x.shape[-1], -1))
    return y_NO.reshape(*x.shape[:-1], *w.shape[1:])


def contract(spec: str, a: Array, b: Array) -> Array:
    """einsum of two arrays, multiplied in the dtype of `a`, summed in at least float32.

    Returns the sums unrounded, and so does its gradient for a wider `b`: a parameter in float32
    beside activations in bfloat16 gets every bit. Every letter of `spec` stands in two of its three
    parts.
    """
    if jnp.promote_types(a.dtype, jnp.float32) == a.dtype:
        return jnp.einsum(spec, a, b.astype(a.dtype))
    return _narrow_contraction(spec)(a, b)


@functools.cache
def _narrow_contraction(spec: str) -> Callable[[Array, Array], Array]:
    """`contract` in bfloat16, with a gradient whose two products are in bfloat16 as well.

    Left alone, JAX multiplies the float32 gradient of the sums in float32. On a CPU that has
    bfloat16 instructions the narrow products are up to three times as fast.
    """
    of_a, of_b, of_y = spec.replace("->", ",").split(",")

    def narrow(spec: str, a: Array, b: Array) -> Array:
        return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)

    def multiply(a: Array, b: Array) -> Array:
        return narrow(spec, a, b.astype(a.dtype))

    def keep(a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
        return multiply(a, b), (a, b)

    def gradients(kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
        a, b = kept
        dy = dy.astype(a.dtype)
        da = narrow(f"{of_y},{of_b}->{of_a}", dy, b.astype(a.dtype))
        if len(of_a) == len(of_b) == 2 and jax.default_backend() == "cpu":
            # Transposed in memory, so that the product reads both sides in order: a step of
            # 6 layers of 384 takes 870 ms instead of 980. The barrier keeps XLA from turning the
            # product round into one that its runtime does not have.
            columns = with_layout_constraint(a.T, Layout((0, 1)))
            db = jax.lax.optimization_barrier(narrow(f"{of_a[::-1]},{of_y}->{of_b}", columns, dy))
        else:
            db = narrow(f"{of_a},{of_y}->{of_b}", a, dy)
        return da.astype(a.dtype), db.astype(b.dtype)

    contraction = jax.custom_vjp(multiply)
    contraction.defvjp(keep, gradients)
    return contraction


def softcap(x: Array, cap: float) -> Array:
    """cap * tanh(x / cap): logits stay within ±cap (Gemma 2, 2024, arXiv:2408.00118)."""
    return cap * jnp.tanh(x / cap)


def relu2(x: Array) -> Array:
    """max(x, 0)² (So et al. 2021, arXiv:2109.08668)."""
    return jnp.square(jax.nn.relu(x))


def gelu(x: Array) -> Array:
    """x Φ(x), exact (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    wide = at_least_float32(x)
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of GELU, as GPT-2 uses it."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS = {"relu2": relu2, "relu": jax.nn.relu, "gelu": gelu, "gelu_tanh": gelu_tanh}


def rotate(x_BNTC: Array, positions_BT: Array, base: float) -> Array:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864), halves paired.

    Channel c of the first half turns with channel c of the second by position * base^(-2c/C), in
    nanochat's direction (y1 = x1 cos + x2 sin, y2 = x2 cos - x1 sin), so that an export to
    NanoChatForCausalLM needs no permutation. Angles are float32 whatever the input.
    """
    half = x_BNTC.shape[-1] // 2
    rates_C = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles_BTC = positions_BT[..., None].astype(jnp.float32) * rates_C
    cos, sin = jnp.cos(angles_BTC)[:, None], jnp.sin(angles_BTC)[:, None]
    first, second = jnp.split(at_least_float32(x_BNTC), 2, axis=-1)
    turned = (first * cos + second * sin, second * cos - first * sin)
    return jnp.concatenate(turned, axis=-1).astype(x_BNTC.dtype)


def segment_positions(segments_BT: Array) -> Array:
    """Positions that restart at 0 where the segment number of a row changes."""
    index_BT = jnp.broadcast_to(jnp.arange(segments_BT.shape[1]), segments_BT.shape)
    before_BT = jnp.pad(segments_BT, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    start_BT = jnp.where(segments_BT != before_BT, index_BT, 0)
    return index_BT - jax.lax.cummax(start_BT, axis=1)


def dropout(x: Array, rate: float, key: Key) -> Array:
    """Zeroes a share `rate` of `x`, scales the rest by 1 / (1 - rate) (Srivastava et al. 2014)."""
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), 0)


def constrain(x: Array) -> Array:
    """Keeps the first axis of `x` split over `BATCH` of the mesh in context.

    `x` as it is without such a mesh, and where the rows do not divide (one prompt, eight devices).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not set(BATCH) <= set(mesh.axis_names):
        return x
    if x.shape[0] % math.prod(mesh.shape[axis] for axis in BATCH):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH))
