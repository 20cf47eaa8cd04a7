"""Attention on arrays: who sees whom, several ways to compute it, and the cache it reads.

Parameters and projections are in layers.py; which way a model takes is chosen in
attention_kernel.py. Shapes live in names: B batch, T query position, S key position, H query heads,
K kv heads, G = H // K, C channels per head.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from nanogpt_jax.functional import contract
from nanogpt_jax.interface import Array

# Queries of causal attention that are computed at once: on CPU what a core's cache holds, elsewhere
# enough rows to fill a device (reasoned, not measured).
QUERY_CHUNK = 128
QUERY_CHUNK_OFF_CPU = 512
# Queries whose chunks are one after the other in the program; of a longer text they are loops.
QUERY_GROUP = 1024
QUERY_LOOPS = 4
# Queries whose logits exist at once when only the largest is wanted.
LOGIT_QUERIES = 128


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


def _scores(q_BHTC: Array, k_BKSC: Array, allowed_BTS: Array) -> Array:
    """q·k / sqrt(C) as BKGTS, in at least float32, very negative where not allowed."""
    B, H, T, C = q_BHTC.shape
    K, S = k_BKSC.shape[1], k_BKSC.shape[2]
    # The G query heads of a kv head are more queries for the same keys: one larger product.
    q_BKQC = (q_BHTC * C**-0.5).reshape(B, K, (H // K) * T, C)
    scores_BKGTS = contract("BKQC,BKSC->BKQS", q_BKQC, k_BKSC).reshape(B, K, H // K, T, S)
    # Finite, so that a row without any allowed key stays free of NaN.
    return jnp.where(allowed_BTS[:, None, None], scores_BKGTS, -1e30)


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


def largest_logit(q_BHTC: Array, k_BKSC: Array, allowed_BTS: Array | None) -> Array:
    """The largest q·k / sqrt(C) of every head over its allowed pairs, as m_BH; no gradient.

    A loop over chunks of queries, so that the scores of all pairs never exist together.
    """
    q_BHTC, k_BKSC = jax.lax.stop_gradient((q_BHTC, k_BKSC))
    B, H, T, C = q_BHTC.shape
    K, S = k_BKSC.shape[1:3]
    q_TBKGC = jnp.moveaxis((q_BHTC * C**-0.5).reshape(B, K, H // K, T, C), 3, 0)

    def of_query(query: tuple[Array, Array]) -> Array:
        q_BKGC, position = query
        seen_BS = (jnp.arange(S) <= position)[None]
        if allowed_BTS is not None:
            seen_BS = allowed_BTS[:, position]
        scores_BKGS = contract("BKGC,BKSC->BKGS", q_BKGC, k_BKSC)
        return jnp.max(jnp.where(seen_BS[:, None, None], scores_BKGS, -jnp.inf), axis=-1)

    largest_TBKG = jax.lax.map(of_query, (q_TBKGC, jnp.arange(T)), batch_size=LOGIT_QUERIES)
    return jnp.max(largest_TBKG, axis=0).reshape(B, H)


def write_cache(buffer_BKSC: Array, new_BKTC: Array, start_B: Array) -> Array:
    """`buffer` with `new` written from position start on, row by row.

    On a CPU in a loop whose length XLA cannot know: a single row's update it would fuse into each
    of its readers, and copy the buffer for each. A step of one row at GPT-2's size moved 300 MB for
    that, beside 500 of parameters, and a step of four such layers took 18 ms instead of 1.
    """
    new_BKTC = new_BKTC.astype(buffer_BKSC.dtype)

    def write(buffer: Array, new: Array, start: Array) -> Array:
        return jax.lax.dynamic_update_slice(buffer, new, (0, start, 0))

    def write_row(row: Array, buffer_BKSC: Array) -> Array:
        new_1KTC = jax.lax.dynamic_slice_in_dim(new_BKTC, row, 1)
        place = (row, 0, start_B[row], 0)
        return jax.lax.dynamic_update_slice(buffer_BKSC, new_1KTC, place)

    def write_in_turn(buffer_BKSC: Array) -> Array:
        row_count = jnp.sum(start_B >= 0)  # all of them
        return jax.lax.fori_loop(0, row_count, write_row, buffer_BKSC)

    return jax.lax.platform_dependent(
        buffer_BKSC,
        cpu=write_in_turn,
        default=lambda buffer_BKSC: jax.vmap(write)(buffer_BKSC, new_BKTC, start_B),
    )
