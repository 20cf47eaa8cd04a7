"""Drawing the next token: one array-valued sampler for the terminal, the server and the tests.

A neutral value switches a filter off, bit for bit. Requests with different settings are rows of
one batch; the key of a draw is (the request's seed, the index of the token), so neighbours,
slots and batch sizes change nothing. Only a repetition penalty looks back: at `seen_BV`, a flag for
each token of the vocabulary, which is compiled in where it is given. Beam search is in beam.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.functional import at_least_float32
from nanogpt_jax.interface import Array
from nanogpt_jax.registry import Rule, fraction, non_negative

below_2_32 = Rule("be below 2**32", lambda value: value < 2**32)
# So that the coldest temperature still divides penalised logits without overflow.
hundredfold = Rule("lie between 0.01 and 100", lambda value: 0.01 <= value <= 100)

# Divides logits of any model without overflow; colder than this is as good as 0.
LEAST_TEMPERATURE = 1e-30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn; filters apply in the order of the fields."""

    repetition_penalty: Annotated[
        float, "makes tokens that have occurred less likely; 1 = off", hundredfold
    ] = 1.0
    temperature: Annotated[float, "divides the logits; 0 = the likeliest token", non_negative] = 1.0
    top_k: Annotated[int, "keep the k likeliest tokens, ties included; 0 = all", non_negative] = 0
    top_p: Annotated[float, "keep the likeliest tokens up to this mass; 1 = all", fraction] = 1.0
    min_p: Annotated[
        float, "drop tokens less likely than this share of the likeliest", fraction
    ] = 0.0
    seed: Annotated[int, "same seed, same text", non_negative, below_2_32] = 0


SETTINGS = tuple(field.name for field in dataclasses.fields(Sampling))


class Rows(NamedTuple):
    """The settings of B requests as arrays."""

    repetition_penalty_B: Array
    temperature_B: Array
    top_k_B: Array
    top_p_B: Array
    min_p_B: Array
    seed_B: Array


def rows(requests: Sequence[Sampling]) -> Rows:
    """The settings of `requests`, stacked."""

    def column(name: str, dtype: type) -> Array:
        return jnp.asarray(np.array([getattr(request, name) for request in requests], dtype))

    return Rows(
        column("repetition_penalty", np.float32),
        column("temperature", np.float32),
        column("top_k", np.int32),
        column("top_p", np.float32),
        column("min_p", np.float32),
        column("seed", np.uint32),
    )


def seen_tokens(
    prompts: Sequence[Sequence[int]], requests: Sequence[Sampling], vocab_size: int
) -> Array | None:
    """`seen_BV` after the prompts, or None where no request has a repetition penalty."""
    if all(request.repetition_penalty == 1 for request in requests):
        return None
    seen_BV = np.zeros((len(prompts), vocab_size), bool)
    for seen_V, prompt in zip(seen_BV, prompts, strict=True):
        seen_V[list(prompt)] = True
    return jnp.asarray(seen_BV)


@overload
def mark_seen(seen_BV: Array, token_B: Array) -> Array: ...
@overload
def mark_seen(seen_BV: None, token_B: Array) -> None: ...
def mark_seen(seen_BV: Array | None, token_B: Array) -> Array | None:
    """`seen_BV` with the token that each row has drawn."""
    if seen_BV is None:
        return None
    return seen_BV.at[jnp.arange(len(token_B)), token_B].set(True)


def draw(
    logits_BV: Array, rows: Rows, index_B: Array, seen_BV: Array | None = None
) -> tuple[Array, Array]:
    """The token of each row, and its log-probability under the unfiltered model.

    `index_B` counts the tokens that each request has drawn before. Temperature 0 takes the
    likeliest token, of equals the one with the lowest id. Without `seen_BV` (of `seen_tokens`) no
    repetition is penalised.
    """
    logits_BV = at_least_float32(logits_BV)
    judged_BV = penalise(logits_BV, rows, seen_BV)

    def noise(seed: Array, index: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(seed), index)
        return jax.random.gumbel(key, logits_BV.shape[1:], logits_BV.dtype)

    def disturb() -> Array:
        return heat_and_filter(judged_BV, rows) + jax.vmap(noise)(rows.seed_B, index_B)

    greedy_B1 = (rows.temperature_B == 0)[:, None]
    # Noise costs as much as a layer, so where nobody asks for any none is made.
    noisy_BV = jax.lax.cond(jnp.all(greedy_B1), lambda: judged_BV, disturb)
    token_B = first_of_largest(jnp.where(greedy_B1, judged_BV, noisy_BV))
    logprobs_BV = jax.nn.log_softmax(logits_BV)
    return token_B, jnp.take_along_axis(logprobs_BV, token_B[:, None], axis=1)[:, 0]


def first_of_largest(x_BV: Array) -> Array:
    """`argmax` of each row as int32, in two reductions.

    One reduction of pairs XLA does number by number: a tenth of a decoding step on CPU (32 rows of
    1600). A row with NaN gives V - 1.
    """
    largest_B1 = jnp.max(x_BV, axis=-1, keepdims=True)
    ids_V = jnp.arange(x_BV.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(x_BV == largest_B1, ids_V, ids_V[-1]), axis=-1)


def likeliest(logits_BV: Array, count: int) -> tuple[Array, Array]:
    """The `count` likeliest tokens of each row, best first, and their log-probabilities.

    Of equals the lowest id comes first; a vocabulary of fewer tokens gives all of them.
    """
    logprobs_BV = jax.nn.log_softmax(at_least_float32(logits_BV))
    logprobs_BN, tokens_BN = jax.lax.top_k(logprobs_BV, min(count, logits_BV.shape[-1]))
    return tokens_BN, logprobs_BN


def penalise(logits_BV: Array, rows: Rows, seen_BV: Array | None) -> Array:
    """Logits with those of seen tokens lowered, as they are without `seen_BV`.

    Divided by the penalty (Keskar et al. 2019, arXiv:1909.05858) where positive, else multiplied,
    since division would raise them.
    """
    if seen_BV is None:
        return logits_BV
    penalty_B1 = rows.repetition_penalty_B[:, None]
    lowered_BV = jnp.where(logits_BV > 0, logits_BV / penalty_B1, logits_BV * penalty_B1)
    return jnp.where(seen_BV, lowered_BV, logits_BV)


def heat_and_filter(logits_BV: Array, rows: Rows) -> Array:
    """Logits of the distribution that a row of some temperature above 0 is drawn from."""
    scaled_BV = logits_BV / jnp.maximum(rows.temperature_B, LEAST_TEMPERATURE)[:, None]
    filtering = (rows.top_k_B > 0) | (rows.top_p_B < 1) | (rows.min_p_B > 0)
    return jax.lax.cond(jnp.any(filtering), lambda z: _filter(z, rows), lambda z: z, scaled_BV)


def _filter(logits_BV: Array, rows: Rows) -> Array:
    """-inf where a filter drops a token: top-k, then top-p of what is left, then min-p.

    Each filter is a threshold on the logits, so equals are kept or dropped together. Top-p keeps
    the token that crosses the mass (Holtzman et al. 2019, arXiv:1904.09751).
    """
    V = logits_BV.shape[-1]
    sorted_BV = -jnp.sort(-logits_BV, axis=-1)
    k_B = jnp.where((rows.top_k_B == 0) | (rows.top_k_B > V), V, rows.top_k_B)
    least_B1 = jnp.take_along_axis(sorted_BV, k_B[:, None] - 1, axis=-1)
    p_BV = jax.nn.softmax(jnp.where(sorted_BV >= least_B1, sorted_BV, -jnp.inf), axis=-1)
    before_BV = jnp.cumsum(p_BV, axis=-1) - p_BV
    inside_BV = (before_BV < rows.top_p_B[:, None]) | (rows.top_p_B[:, None] >= 1)
    inside_BV &= (p_BV >= rows.min_p_B[:, None] * p_BV[:, :1]) & (sorted_BV >= least_B1)
    last_B1 = jnp.maximum(jnp.sum(inside_BV, axis=-1, keepdims=True) - 1, 0)
    return jnp.where(
        logits_BV >= jnp.take_along_axis(sorted_BV, last_B1, axis=-1), logits_BV, -jnp.inf
    )
