"""Next-token loss as sums and counts, divided once after any reduction.

So accumulation, any mesh and pmap agree, and a standard error comes with every mean: the moments
of the rows are sums too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nanogpt_jax.functional import at_least_float32
from nanogpt_jax.interface import Array

# Numbers in the logits of one chunk. On CPU what a core's cache holds (chunks of 2^24 took four
# times as long); elsewhere enough to fill the device, and still small beside the activations.
CHUNK_LOGITS_ON_CPU = 2**19
CHUNK_LOGITS = 2**26


class LossSums(NamedTuple):
    """Summed loss in nats and summed weight in tokens, with the second moments of the rows.

    Every leaf is additive, so sums of parts are the sums of the whole.
    """

    nats: Array
    tokens: Array
    nats_squared: Array
    nats_tokens: Array
    tokens_squared: Array


def row_losses(
    unembed: Callable[[Array], Array],
    hidden_BTD: Array,
    targets_BT: Array,
    weights_BT: Array,
    *,
    vocab_size: int,
    chunk_logits: int | None = None,
    logit_gradient_cap: Array | None = None,
) -> Array:
    """Weighted negative log-likelihood of each row in nats, in at least float32.

    Positions go through `unembed` in chunks, recomputed in the backward pass, so that the logits
    of a whole batch need never exist. A chunk has at most `chunk_logits` logits, but at least one
    position of every row; None is the backend's best.

    With `logit_gradient_cap`, the gradient of a row's mean loss with respect to all of its logits,
    softmax - target at each position, has at most that norm; values stay as they are.
    """
    B, T = targets_BT.shape
    chunks, size = chunk_sizes(B, T, vocab_size, chunk_logits)

    def chunk_losses(hidden: Array, targets: Array, weights: Array) -> tuple[Array, Array | None]:
        """Losses of the rows, and what they send into the logits, squared, where that is asked."""
        logits = at_least_float32(unembed(hidden))
        chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        nats = jax.nn.logsumexp(logits, axis=-1) - chosen
        sent_B = None
        if logit_gradient_cap is not None:
            p = jax.nn.softmax(jax.lax.stop_gradient(logits))
            p_chosen = jnp.take_along_axis(p, targets[..., None], axis=-1)[..., 0]
            squares = jnp.sum(jnp.square(p), axis=-1) - 2 * p_chosen + 1
            sent_B = jnp.sum(squares * jnp.square(weights), axis=1)
        return jnp.sum(nats * weights, axis=1), sent_B

    def capped(nats_B: Array, sent_B: Array | None) -> Array:
        if logit_gradient_cap is None or sent_B is None:
            return nats_B
        # Backpropagation is linear: scaling the loss of a row scales what reaches its logits.
        most_B = logit_gradient_cap * jnp.sum(weights_BT, axis=1)
        scale_B = jnp.minimum(1.0, most_B / jnp.maximum(jnp.sqrt(sent_B), 1e-30))
        scaled_B = scale_B * nats_B
        return scaled_B + jax.lax.stop_gradient(nats_B - scaled_B)

    if chunks == 1:
        return capped(*chunk_losses(hidden_BTD, targets_BT, weights_BT))

    def split(x: Array) -> Array:
        # What is padded has weight 0.
        padded = jnp.pad(x, [(0, 0), (0, chunks * size - T)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(B, chunks, size, *x.shape[2:]), 1, 0)

    def add(total: Any, chunk: tuple[Array, Array, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, jax.checkpoint(chunk_losses)(*chunk)), None

    parts = (split(hidden_BTD), split(targets_BT), split(weights_BT))
    zero_B = jnp.zeros(B, jnp.promote_types(hidden_BTD.dtype, jnp.float32))
    zeros = (zero_B, None if logit_gradient_cap is None else zero_B)
    return capped(*jax.lax.scan(add, zeros, parts)[0])


def chunk_sizes(B: int, T: int, vocab_size: int, chunk_logits: int | None) -> tuple[int, int]:
    """How many chunks T positions are cut into, and the positions of each, as equal as can be."""
    if chunk_logits is None:
        chunk_logits = CHUNK_LOGITS_ON_CPU if jax.default_backend() == "cpu" else CHUNK_LOGITS
    longest = max(1, chunk_logits // (B * vocab_size))
    size = math.ceil(T / math.ceil(T / longest))
    return math.ceil(T / size), size


def sum_rows(nats_B: Array, tokens_B: Array) -> LossSums:
    """The sums of a batch from the losses and token counts of its rows."""
    return LossSums(
        jnp.sum(nats_B),
        jnp.sum(tokens_B),
        jnp.sum(jnp.square(nats_B)),
        jnp.sum(nats_B * tokens_B),
        jnp.sum(jnp.square(tokens_B)),
    )


def mean_and_error(sums: LossSums) -> tuple[float, float]:
    """Nats per token, and its standard error with the rows as independent clusters.

    The error of a ratio of sums, sqrt(Σ (nats_i - mean tokens_i)²) / Σ tokens_i; 0 without tokens.
    """
    nats, tokens, nats_squared, nats_tokens, tokens_squared = (float(part) for part in sums)
    if tokens == 0:
        return 0.0, 0.0
    mean = nats / tokens
    variance = nats_squared - 2 * mean * nats_tokens + mean**2 * tokens_squared
    return mean, math.sqrt(max(variance, 0.0)) / tokens
