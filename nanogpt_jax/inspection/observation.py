"""What can be read off one pass: attention, expectations, the logit lens, routing.

It changes nothing in the model, unless `predict` is handed edits.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.inspection.passes import Apply, Unembed, observe, pad, site_shape
from nanogpt_jax.interface import Array, Edits, LanguageModel, Params


class Attention(NamedTuple):
    """Where every head looks from every query: probabilities, their entropy, how far back."""

    probabilities_LHTS: np.ndarray
    entropy_nats_LHT: np.ndarray
    distance_tokens_LHT: np.ndarray


class Predictions(NamedTuple):
    """What is expected at each position, and how the prompt fits: its losses, and ranks from 0."""

    nats_P: np.ndarray
    ranks_P: np.ndarray
    entropy_nats_T: np.ndarray
    tokens_TA: np.ndarray  # the likeliest first
    logprobs_TA: np.ndarray


class Lens(NamedTuple):
    """`Predictions` at each depth: row l is read before layer l, the last one is the model's."""

    nats_MP: np.ndarray
    ranks_MP: np.ndarray
    entropy_nats_MT: np.ndarray
    tokens_MTA: np.ndarray
    logprobs_MTA: np.ndarray


class Routing(NamedTuple):
    """The router's probabilities, the weights of the experts that answer, and their mean."""

    probabilities_LTE: np.ndarray
    gates_LTE: np.ndarray
    share_LE: np.ndarray


def attention(
    model: LanguageModel, params: Params, tokens: Sequence[int], *, padded_length: int | None = None
) -> Attention:
    """Attention p_LHTS with -Σ p ln p and Σ p (t - s) of each query.

    Sources: Clark et al. 2019, arXiv:1906.04341 (entropy of heads); Vig and Belinkov 2019,
    arXiv:1906.04284 (mean distance).
    """
    T = len(tokens)
    captured = _capture(model, params, tokens, ("attention",), padded_length)
    p_LHTS = captured["attention"][:, 0, :, :T, :T]
    ln_p_LHTS = np.log(np.where(p_LHTS > 0, p_LHTS, 1))
    back_TS = np.arange(T)[:, None] - np.arange(T)
    return Attention(
        p_LHTS,
        -np.einsum("LHTS,LHTS->LHT", p_LHTS, ln_p_LHTS),
        np.einsum("LHTS,TS->LHT", p_LHTS, back_TS),
    )


def routing(
    model: LanguageModel, params: Params, tokens: Sequence[int], *, padded_length: int | None = None
) -> Routing:
    """The experts of every token in every layer (Shazeer et al. 2017, arXiv:1701.06538)."""
    T = len(tokens)
    captured = _capture(model, params, tokens, ("router", "gates"), padded_length)
    gates_LTE = captured["gates"][:, 0, :T]
    return Routing(captured["router"][:, 0, :T], gates_LTE, gates_LTE.mean(axis=1))


def predict(
    model: LanguageModel,
    params: Params,
    tokens: Sequence[int],
    *,
    edits: Edits | None = None,
    alternatives: int = 5,
    padded_length: int | None = None,
) -> Predictions:
    """Loss of every token of the prompt, and the likeliest tokens at every position.

    `edits`, from `silence` or of your own, intervene: they have a leading layer axis and broadcast
    against the captured value, whose rows are one and whose length is the padded one. At most the
    vocabulary is listed.
    """
    row_1T = pad(tokens, padded_length)
    read = _predict(model.apply, model.unembed, alternatives, params, row_1T, edits)
    return Predictions(*_cut(read, len(tokens)))


def logit_lens(
    model: LanguageModel,
    params: Params,
    tokens: Sequence[int],
    *,
    alternatives: int = 5,
    padded_length: int | None = None,
) -> Lens:
    """What the model would say if it ended before each layer (nostalgebraist 2020, logit lens).

    The residual stream goes through the model's own last norm and head at every depth.
    """
    site_shape(model, params, "residual")
    row_1T = pad(tokens, padded_length)
    read = _lens(model.apply, model.unembed, alternatives, params, row_1T)
    return Lens(*_cut(read, len(tokens)))


def _capture(
    model: LanguageModel,
    params: Params,
    tokens: Sequence[int],
    sites: tuple[str, ...],
    padded_length: int | None,
) -> dict[str, np.ndarray]:
    """What the sites hold, on the host."""
    for site in sites:
        site_shape(model, params, site)
    row_1T = pad(tokens, padded_length)
    return jax.device_get(observe(model.apply, sites, params, row_1T)[1])


def _cut(read: tuple[Array, ...], T: int) -> tuple[np.ndarray, ...]:
    """What was read, without the positions after the prompt."""
    nats, ranks, entropy, tokens, logprobs = jax.device_get(read)
    predicted = slice(T - 1)
    return (
        *(nats[..., predicted], ranks[..., predicted], entropy[..., :T]),
        *(tokens[..., :T, :], logprobs[..., :T, :]),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _predict(
    apply: Apply,
    unembed: Unembed,
    alternatives: int,
    params: Params,
    row_1T: Array,
    edits: Edits | None,
) -> tuple[Array, ...]:
    hidden_1TD = apply(params, row_1T, edits=edits).hidden_BTD
    return _read(unembed, alternatives, params, hidden_1TD, row_1T)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _lens(
    apply: Apply, unembed: Unembed, alternatives: int, params: Params, row_1T: Array
) -> tuple[Array, ...]:
    output = apply(params, row_1T, capture=("residual",))
    hidden_M1TD = jnp.concatenate((output.captured["residual"], output.hidden_BTD[None]))
    # One depth at a time: the logits of all of them would be M times as large.
    return jax.lax.map(
        lambda hidden_1TD: _read(unembed, alternatives, params, hidden_1TD, row_1T), hidden_M1TD
    )


def _read(
    unembed: Unembed, alternatives: int, params: Params, hidden_1TD: Array, row_1T: Array
) -> tuple[Array, ...]:
    """The fields of `Predictions` at every position; the last one has no target."""
    logprobs_TV = jax.nn.log_softmax(unembed(params, hidden_1TD[0]))
    chosen_T1 = jnp.take_along_axis(logprobs_TV, jnp.roll(row_1T[0], -1)[:, None], axis=-1)
    ranks_T = jnp.sum(logprobs_TV > chosen_T1, axis=-1)
    entropy_T = -jnp.sum(jnp.exp(logprobs_TV) * logprobs_TV, axis=-1)
    listed = min(alternatives, logprobs_TV.shape[-1])
    logprobs_TA, tokens_TA = jax.lax.top_k(logprobs_TV, listed)
    return -chosen_T1[:, 0], ranks_T, entropy_T, tokens_TA, logprobs_TA
