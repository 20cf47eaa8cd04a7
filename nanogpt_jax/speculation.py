"""Speculative decoding: cheap guesses at the next tokens, checked by one step of the model.

The noise of a draw belongs to the request's seed and the token's index, so the token that the model
would draw at each place is fixed, and a guess holds exactly where it is that token: texts are those
of plain decoding, token for token, greedy or not (drafter-invariant speculative decoding, Daliri et
al. 2024, arXiv:2408.07978; the idea of drafts is Leviathan et al. 2022, arXiv:2211.17192).

Here are the guesses; `decoding` checks them, and `slots` asks for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.decoding import Decoding, State
from nanogpt_jax.interface import Array, LanguageModel, Params
from nanogpt_jax.sampling import draw, mark_seen


class PromptLookup:
    """Guesses that what followed the last few tokens before follows them again (Saxena 2023).

    Costs nothing but the look; pays where a text repeats itself or its prompt.
    """

    def __init__(self, tokens: int = 8, longest_match: int = 3):
        self.tokens = tokens
        self._longest = longest_match

    def empty(self, count: int) -> None:
        """Nothing: the text is all it needs."""

    def read(self, text: Sequence[int]) -> None:
        """Nothing."""

    def propose(
        self, state: State, texts: Sequence[Sequence[int] | None]
    ) -> tuple[np.ndarray, np.ndarray, State]:
        """What followed the latest earlier occurrence of the longest match."""
        drafts_BK = np.zeros((len(texts), self.tokens), np.int32)
        drafted_B = np.zeros(len(texts), np.int32)
        for row, text in enumerate(texts):
            guess = self.guess(text) if text else []
            drafts_BK[row, : len(guess)] = guess
            drafted_B[row] = len(guess)
        return drafts_BK, drafted_B, state

    def guess(self, text: Sequence[int]) -> list[int]:
        """At most `tokens` guesses, none without a match."""
        written = np.asarray(text, np.int32)
        for length in range(min(self._longest, len(written) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(written[:-1], length)
            found = np.flatnonzero((windows == written[-length:]).all(axis=1))
            if len(found):
                start = int(found[-1]) + length
                return written[start : start + self.tokens].tolist()
        return []


class DraftModel:
    """Guesses with a smaller model of the same vocabulary, which draws with the same noise.

    So it guesses right wherever it would itself have drawn the same token. Its context must be
    as long as that of the model it guesses for.
    """

    def __init__(self, model: LanguageModel, params: Params, context_length: int, tokens: int = 4):
        self.tokens = tokens
        self._decoding = Decoding(model, context_length)
        self._params = self._decoding.prepare(params)
        if not self._decoding.cached:
            raise ValueError("a draft model must keep a cache; this one keeps none")
        self._empty_cache = model.empty_cache
        self._propose = jax.jit(self._draw_ahead, donate_argnums=1)

    def empty(self, count: int) -> Any:
        """The caches of `count` rows."""
        assert self._empty_cache is not None
        return self._empty_cache(count, self._decoding.context_length)

    def read(self, text: Sequence[int]) -> Any:
        """The cache of a row after `text` without its last tokens beyond the context."""
        return self._decoding.read(self._params, [text])[1]

    def propose(
        self, state: State, texts: Sequence[Sequence[int] | None]
    ) -> tuple[Array, np.ndarray, State]:
        """The tokens that the small model draws in the places to come."""
        drafts_BK, state = self._propose(self._params, state)
        drafted_B = np.array([self.tokens if text else 0 for text in texts], np.int32)
        return drafts_BK, drafted_B, state

    def _draw_ahead(self, params: Params, state: State) -> tuple[Array, State]:
        assert state.cache is not None
        # Where the model stands, its draft stands: what it guessed wrong is overwritten.
        cache = state.draft._replace(length_B=state.cache.length_B)
        token_B, seen_BV, drafts = state.token_B, state.seen_BV, []
        for place in range(self.tokens):
            logits_BV, cache = self._decoding.advance(params, cache, token_B)
            token_B, _ = draw(logits_BV, state.settings, state.index_B + place, seen_BV)
            seen_BV = mark_seen(seen_BV, token_B)
            drafts.append(token_B)
        # The last guess is read too, since the model may go on after it.
        _, cache = self._decoding.advance(params, cache, token_B)
        return jnp.stack(drafts, axis=1), state._replace(draft=cache)
