"""The mathematics of a transformer, on arrays: no parameters, no modules, no state.

Shapes live in names: B batch, T query position, S key position, D width, H query heads, K kv
heads, G = H // K, C channels per head. Reductions run in at least float32 and return the dtype
of their input, so that float64 contracts hold.
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


# Queries of causal attention that are computed at once: on CPU what a core's cache holds, elsewhere
# enough rows to fill a device (reasoned, not measured).
QUERY_CHUNK = 128
QUERY_CHUNK_OFF_CPU = 512
# Queries whose chunks are one after the other in the program; of a longer text they are loops.
QUERY_GROUP = 1024
QUERY_LOOPS = 4

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


def causal_mask(length: int) -> Array:
    """allowed_BTS of plain causal attention, B = 1: query t sees keys 0..t."""
    index_T = jnp.arange(length)
    return (index_T[:, None] >= index_T[None, :])[None]


def attention_probabilities(q_BHTC: Array, k_BKSC: Array, allowed_BTS: Array) -> Array:
    """softmax(q·k / sqrt(C)) over the allowed keys, as p_BHTS, in at least float32."""
    scores_BKGTS = _scores(q_BHTC, k_BKSC, allowed_BTS)
    B, K, G, T, S = scores_BKGTS.shape
    return jax.nn.softmax(scores_BKGTS, axis=-1).reshape(B, K * G, T, S)


def mix(p_BHTS: Array, v_BKSC: Array) -> Array:
    """Values averaged with probabilities `p_BHTS`; each kv head serves H // K query heads."""
    B, H, T, S = p_BHTS.shape
    K, C = v_BKSC.shape[1], v_BKSC.shape[-1]
    p_BKQS = p_BHTS.astype(v_BKSC.dtype).reshape(B, K, (H // K) * T, S)
    return jnp.einsum("BKQS,BKSC->BKQC", p_BKQS, v_BKSC).reshape(B, H, T, C)


def attend(q_BHTC: Array, k_BKSC: Array, v_BKSC: Array, allowed_BTS: Array) -> Array:
    """Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245); K == H is multi-head.

    The same value as `mix(attention_probabilities(...))`, without the probabilities: the division
    by the softmax sum happens after the product with the values, on T x C numbers instead of
    T x S. Scores and sums run in at least float32. Heads stand before positions because batched
    products in that order are several times faster on CPU.
    """
    scores_BKGTS = _scores(q_BHTC, k_BKSC, allowed_BTS)
    B, K, G, T, S = scores_BKGTS.shape
    # Any shift leaves the quotient as it is, so the largest score carries no gradient.
    largest = jax.lax.stop_gradient(jnp.max(scores_BKGTS, axis=-1, keepdims=True))
    weights_BKQS = jnp.exp(scores_BKGTS - largest).reshape(B, K, G * T, S)
    total_BKQ1 = jnp.sum(weights_BKQS, axis=-1, keepdims=True)
    sums_BKQC = contract("BKQS,BKSC->BKQC", weights_BKQS.astype(v_BKSC.dtype), v_BKSC)
    y_BKQC = (sums_BKQC / total_BKQ1).astype(v_BKSC.dtype)
    return y_BKQC.reshape(B, K * G, T, v_BKSC.shape[-1])


def attend_causally(
    q_BHTC: Array, k_BKTC: Array, v_BKTC: Array, allowed_BTT: Array | None = None
) -> Array:
    """`attend` where no query sees a later key: those are not even multiplied.

    Without `allowed_BTT` a query sees every key up to its own, and no mask of T x T exists. Queries
    go chunk by chunk, each with the keys up to its own end, and the backward pass computes the
    scores of a chunk again instead of reading them (Rabe and Staats 2021, arXiv:2112.05682). On two
    CPU cores 1.25 times as fast as all at once (T = 256).

    Beyond `QUERY_GROUP` queries there are at most `QUERY_LOOPS` loops over chunks, each with the
    keys up to the loop's end: of chunks that stand side by side XLA keeps all scores, and of loops
    their gradients of the keys. Temporaries of the gradient on CPU (B = 1, H = 4, C = 32, float32)
    fell from 92 to 18 MB at T = 2048 and from 352 to 43 MB at 4096; a step took no longer.
    """
    T = q_BHTC.shape[2]
    size = QUERY_CHUNK if jax.default_backend() == "cpu" else QUERY_CHUNK_OFF_CPU

    def attend_chunk(q_BHQC: Array, start: Array | int, end: int) -> Array:
        seen_BQS = _allowed_to_chunk(allowed_BTT, start, q_BHQC.shape[2], end)
        return attend(q_BHQC, k_BKTC[:, :, :end], v_BKTC[:, :, :end], seen_BQS)

    if T <= size:
        return attend_chunk(q_BHTC, 0, T)
    attend_again = jax.checkpoint(attend_chunk, static_argnums=2)

    if T <= QUERY_GROUP:
        starts = range(0, T, size)
        parts = [attend_again(q_BHTC[:, :, i : i + size], i, min(i + size, T)) for i in starts]
        return jnp.concatenate(parts, axis=2)

    def attend_in_turn(start: int, end: int) -> Array:
        B, H, _, C = q_BHTC.shape
        q_BHNQC = q_BHTC[:, :, start:end].reshape(B, H, -1, size, C)

        def step(_: None, chunk: tuple[Array, Array]) -> tuple[None, Array]:
            return None, attend_again(*chunk, end)

        chunks = (jnp.moveaxis(q_BHNQC, 2, 0), jnp.arange(start, end, size))
        y_NBHQC = jax.lax.scan(step, None, chunks)[1]
        return jnp.moveaxis(y_NBHQC, 0, 2).reshape(B, H, end - start, C)

    whole = T // size * size
    group = max(QUERY_GROUP, math.ceil(T / (QUERY_LOOPS * size)) * size)
    parts = [attend_in_turn(i, min(i + group, whole)) for i in range(0, whole, group)]
    if whole < T:
        parts.append(attend_again(q_BHTC[:, :, whole:], whole, T))
    return jnp.concatenate(parts, axis=2)


def _allowed_to_chunk(allowed_BTT: Array | None, start: Array | int, size: int, end: int) -> Array:
    """The keys before `end` that each of `size` queries from `start` on may see."""
    if allowed_BTT is None:
        return (start + jnp.arange(size)[:, None] >= jnp.arange(end))[None]
    return jax.lax.dynamic_slice_in_dim(allowed_BTT, start, size, axis=1)[:, :, :end]


def attend_with_cudnn(
    q_BHTC: Array, k_BKTC: Array, v_BKTC: Array, allowed_BTT: Array | None = None
) -> Array:
    """`attend_causally` by cuDNN's flash attention (Dao 2023, arXiv:2307.08691), on an NVIDIA GPU.

    `allowed_BTT` narrows what is causal anyway; cuDNN reads it as a bias of B x T x T numbers.
    Raises RuntimeError or ValueError while it is traced or compiled where cuDNN cannot do it:
    attention_kernel.py finds that out beforehand.
    """
    # The library wants positions before heads, as the projections put them out: these transposes
    # and those of the layer cancel.
    q_BTHC, k_BTKC, v_BTKC = (each.swapaxes(1, 2) for each in (q_BHTC, k_BKTC, v_BKTC))
    mask_B1TT = None if allowed_BTT is None else allowed_BTT[:, None]
    y_BTHC = jax.nn.dot_product_attention(
        q_BTHC, k_BTKC, v_BTKC, mask=mask_B1TT, is_causal=True, implementation="cudnn"
    )
    return y_BTHC.swapaxes(1, 2)


def _scores(q_BHTC: Array, k_BKSC: Array, allowed_BTS: Array) -> Array:
    """q·k / sqrt(C) as BKGTS, in at least float32, very negative where not allowed."""
    B, H, T, C = q_BHTC.shape
    K, S = k_BKSC.shape[1], k_BKSC.shape[2]
    # The G query heads of a kv head are more queries for the same keys: one larger product.
    q_BKQC = (q_BHTC * C**-0.5).reshape(B, K, (H // K) * T, C)
    scores_BKGTS = contract("BKQC,BKSC->BKQS", q_BKQC, k_BKSC).reshape(B, K, H // K, T, S)
    # Finite, so that a row without any allowed key stays free of NaN.
    return jnp.where(allowed_BTS[:, None, None], scores_BKGTS, -1e30)


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
