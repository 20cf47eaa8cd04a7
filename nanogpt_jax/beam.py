"""Beam search: the likeliest whole continuations, where sampling draws one token at a time.

Nothing is random, no filter applies, and all of it must fit into one context: the window does not
slide. A beam as wide as the tree of all continuations finds the best of them exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import Array, KVCache, LanguageModel, Params


class Hypothesis(NamedTuple):
    """A continuation, and the stop token that ended it: part of `logprob`, not of `tokens`.

    `stop` is None where the search was cut off by its number of tokens.
    """

    tokens: tuple[int, ...]
    stop: int | None
    logprob: float  # of the whole continuation
    score: float


class _Extension(NamedTuple):
    """The best next tokens of all beams together, and what stopping each beam here would give."""

    parent_W: Any
    token_W: Any
    logprob_W: Any
    stopped_WS: Any


def score_of(logprob: float, n_tokens: int, length_penalty: float) -> float:
    """logprob / ((5 + n) / 6)^penalty (Wu et al. 2016, arXiv:1609.08144), n with the stop.

    0 ranks by probability alone, which favours short texts; more favours longer ones.
    """
    return logprob / ((5 + n_tokens) / 6) ** length_penalty


class BeamSearch:
    """Searches the continuations of one model; every number of beams compiles a step of its own."""

    def __init__(self, model: LanguageModel, context_length: int):
        self._generator = Generator(model, context_length)
        self._follow = jax.jit(self._advance_beams)

    def search(
        self,
        params: Params,
        prompt: Sequence[int],
        *,
        beams: int,
        max_tokens: int,
        stop: Collection[int] = (),
        length_penalty: float = 0.0,
    ) -> list[Hypothesis]:
        """The best continuations found, at most `beams`, best first.

        A continuation ends before one of `stop` or has `max_tokens` tokens. Of equally likely
        tokens the lower id comes first. Raises ValueError where prompt and continuation do not fit
        into the context together, or the model keeps no cache.
        """
        if beams < 1 or length_penalty < 0:
            raise ValueError(
                f"beams={beams} must be at least 1, length_penalty={length_penalty} at least 0"
            )
        params = self._generator.prepare(params)
        logits_1V, cache = self._generator.read_to_continue(params, [prompt], max_tokens)
        V = logits_1V.shape[1]
        stop_S = np.array(sorted(token for token in {*stop} if 0 <= token < V), np.int32)
        logits_WV = jnp.broadcast_to(logits_1V, (beams, V))
        # All beams begin alike, so only the first is alive.
        logprob_W = np.array([0.0] + [-np.inf] * (beams - 1), np.float32)
        parent_W = np.zeros(beams, np.int32)
        texts: list[tuple[int, ...]] = [()] * beams
        stopped: list[Hypothesis] = []
        for length in range(1, max_tokens + 1):
            if length > 1:
                token_W = np.array([text[-1] for text in texts], np.int32)
                logits_WV, cache = self._follow(params, cache, parent_W, token_W)
            found: _Extension = jax.device_get(_extend(logits_WV, logprob_W, stop_S))
            stopped += [
                Hypothesis(texts[row], token, each, score_of(each, length, length_penalty))
                for row, logprobs in enumerate(found.stopped_WS.tolist())
                for token, each in zip(stop_S.tolist(), logprobs, strict=True)
                if each > -np.inf
            ]
            stopped = _best(stopped, beams)
            pairs = zip(found.parent_W.tolist(), found.token_W.tolist(), strict=True)
            texts = [(*texts[row], token) for row, token in pairs]
            parent_W, logprob_W = found.parent_W, found.logprob_W
            # Log-probabilities only fall, and the longest text divides them by most.
            reachable = score_of(float(logprob_W[0]), max_tokens, length_penalty)
            if reachable <= (stopped[-1].score if len(stopped) == beams else -np.inf):
                return stopped
        cut = [
            Hypothesis(text, None, each, score_of(each, max_tokens, length_penalty))
            for text, each in zip(texts, logprob_W.tolist(), strict=True)
            if each > -np.inf
        ]
        return _best(stopped + cut, beams)

    def _advance_beams(
        self, params: Params, cache: KVCache, parent_W: Array, token_W: Array
    ) -> tuple[Array, KVCache]:
        """The logits of every beam after its last token, read into the cache of its parent."""
        inherited = jax.tree.map(lambda rows: rows[parent_W], cache)
        return self._generator.decoding.advance(params, inherited, token_W)


@jax.jit
def _extend(logits_WV: Array, logprob_W: Array, stop_S: Array) -> _Extension:
    W, V = logits_WV.shape
    total_WV = logprob_W[:, None] + jax.nn.log_softmax(logits_WV)
    going_WV = total_WV.at[:, stop_S].set(-jnp.inf)
    best_W, flat_W = jax.lax.top_k(going_WV.reshape(W * V), W)
    return _Extension(flat_W // V, flat_W % V, best_W, total_WV[:, stop_S])


def _best(found: list[Hypothesis], count: int) -> list[Hypothesis]:
    return sorted(found, key=lambda each: -each.score)[:count]
