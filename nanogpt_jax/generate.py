"""Generation: a prompt is read in one pass, then one token a step with a key-value cache.

Whatever the prompts and settings, `Generator` compiles few programs: reading (one for each length,
rounded up to a power of two), a step, and a loop of steps. When the context is full, the window
slides: every further token reads the last `context_length` tokens anew, as a model without a cache
does for every token.

Which token is drawn, sampling.py says; what becomes of the text, stops.py; beams are in beam.py.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.interface import Array, KVCache, LanguageModel, Params
from nanogpt_jax.layers import split_layers
from nanogpt_jax.sampling import (
    Rows,
    Sampling,
    draw,
    likeliest,
    mark_seen,
    rows,
    seen_tokens,
)

# Shorter prompts are read as if they were so long: compiling costs more than reading.
LEAST_READ = 16


class Alternative(NamedTuple):
    """A token that could stand in the place of a drawn one."""

    token: int
    logprob: float


class Drawn(NamedTuple):
    """One generated token and its log-probability under the unfiltered model.

    `alternatives` are the likeliest tokens in its place, best first, itself maybe one of them.
    """

    token: int
    logprob: float
    alternatives: tuple[Alternative, ...] = ()


class _Loop(NamedTuple):
    """What a loop of steps carries; a row is open until it has drawn its stop."""

    index: Array
    open_B: Array
    drawn_BN: Array
    logits_BV: Array
    cache: KVCache
    seen_BV: Array | None


class Generator:
    """Generates with one model, from parameters as training leaves them or from `prepare`."""

    def __init__(self, model: LanguageModel, context_length: int):
        self.context_length = context_length
        self._model = model
        self._read = jax.jit(self._read_prompts)
        self._step = jax.jit(self.advance, donate_argnums=1)
        self._run = jax.jit(self._draw_until)

    @staticmethod
    def prepare(params: Params) -> Params:
        """The parameters with a tree per layer: slicing stacked weights for every token is slow."""
        if "layers" not in params or isinstance(params["layers"], tuple):
            return params
        n_layer = jax.tree.leaves(params["layers"])[0].shape[0]
        return {**params, "layers": split_layers(params["layers"], n_layer)}

    def stream(
        self,
        params: Params,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        max_tokens: int,
        stop: Collection[int] = (),
        alternatives: int = 0,
    ) -> Iterator[Drawn]:
        """Tokens as they are drawn, up to `max_tokens` or before one of `stop`.

        A repetition penalty remembers the whole prompt and all that was drawn, even what the
        window has left behind. Each number of `alternatives` compiles a draw of its own.
        """
        params = self.prepare(params)
        settings = rows([sampling])
        tokens = list(prompt)
        cache = seen_BV = None
        for index in range(max_tokens):
            if cache is None or len(tokens) > self.context_length:
                logits_BV, cache = self.read(params, [tokens])
            else:
                logits_BV, cache = self._step(params, cache, np.array(tokens[-1:], np.int32))
            if index == 0:
                seen_BV = seen_tokens([prompt], [sampling], logits_BV.shape[1])
            token_B, logprob_B, others, seen_BV = _draw(
                logits_BV, settings, np.array([index], np.int32), seen_BV, alternatives
            )
            pairs = zip(*(column_BN[0].tolist() for column_BN in others), strict=True)
            drawn = Drawn(token_B.item(), logprob_B.item(), tuple(map(Alternative._make, pairs)))
            if drawn.token in stop:
                return
            yield drawn
            tokens.append(drawn.token)

    def answer(self, params: Params, prompt: Sequence[int], *, stop: Collection[int]) -> list[int]:
        """The likeliest continuation before one of `stop`, or until the context is full.

        Nothing follows an empty prompt, nor one that fills the context.
        """
        room = self.context_length - len(prompt) if prompt else 0
        greedy = Sampling(temperature=0.0)
        drawn = self.stream(params, prompt, greedy, max_tokens=room, stop=stop)
        return [one.token for one in drawn]

    def complete(
        self,
        params: Params,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[Sampling],
        *,
        max_tokens: int,
        stop: int,
    ) -> list[list[int]]:
        """The continuation of every prompt before `stop`, all rows in one compiled loop.

        Prompt and continuation must fit into the context together; the last token of all is drawn
        and not read, so it may stand one beyond. The loop ends with its last row.
        """
        params = self.prepare(params)
        logits_BV, cache = self.read_to_continue(params, prompts, max_tokens)
        seen_BV = seen_tokens(prompts, samplings, logits_BV.shape[1])
        drawn_BN = self._run(params, cache, logits_BV, rows(samplings), max_tokens, stop, seen_BV)
        drawn = np.asarray(drawn_BN)[:, :max_tokens].tolist()
        return [row[: row.index(stop)] if stop in row else row for row in drawn]

    def read_to_continue(
        self, params: Params, prompts: Sequence[Sequence[int]], max_tokens: int
    ) -> tuple[Array, KVCache]:
        """`read`, where `max_tokens` more must fit into the same window."""
        longest = max(map(len, prompts))
        if longest + max_tokens > self.context_length + 1:
            raise ValueError(
                f"{longest} prompt tokens and {max_tokens} more do not fit into the context of "
                f"{self.context_length}; shorten one of them, or stream"
            )
        logits_BV, cache = self.read(params, prompts)
        if cache is None:
            raise ValueError("this model keeps no cache and cannot complete; stream instead")
        return logits_BV, cache

    def read(
        self, params: Params, prompts: Sequence[Sequence[int]]
    ) -> tuple[Array, KVCache | None]:
        """Logits after each prompt, and the cache that holds it; long prompts lose their start."""
        kept = [prompt[-self.context_length :] for prompt in prompts]
        lengths_B = np.array([len(prompt) for prompt in kept], np.int32)
        if lengths_B.min() == 0:
            raise ValueError("an empty prompt: at least one token is required, such as BOS")
        rounded = 1 << (int(lengths_B.max()) - 1).bit_length()
        length = min(max(rounded, LEAST_READ), self.context_length)
        tokens_BT = np.zeros((len(kept), length), np.int32)
        for row, prompt in enumerate(kept):
            tokens_BT[row, : len(prompt)] = prompt
        return self._read(params, tokens_BT, lengths_B)

    def _read_prompts(
        self, params: Params, tokens_BT: Array, lengths_B: Array
    ) -> tuple[Array, KVCache | None]:
        B, cache = len(lengths_B), None
        if self._model.empty_cache is not None:
            cache = self._model.empty_cache(B, self.context_length)
        output = self._model.apply(params, tokens_BT, cache=cache)
        hidden_BD = output.hidden_BTD[jnp.arange(B), lengths_B - 1]
        if output.cache is not None:
            # Keys of the padding lie beyond each length: masked until a token overwrites them.
            cache = output.cache._replace(length_B=lengths_B)
        return self._model.unembed(params, hidden_BD), cache

    def advance(self, params: Params, cache: KVCache, token_B: Array) -> tuple[Array, KVCache]:
        """Logits after one more token a row, and the cache that holds it; not compiled here."""
        output = self._model.apply(params, token_B[:, None], cache=cache)
        assert output.cache is not None  # a cache goes in, so one comes out
        return self._model.unembed(params, output.hidden_BTD[:, 0]), output.cache

    def _draw_until(
        self,
        params: Params,
        cache: KVCache,
        logits_BV: Array,
        settings: Rows,
        max_tokens: Array,
        stop: Array,
        seen_BV: Array | None,
    ) -> Array:
        """Tokens of B rows, drawn until each has drawn `stop`, at most `max_tokens`."""
        B = len(logits_BV)

        def unfinished(loop: _Loop) -> Array:
            return (loop.index < max_tokens) & jnp.any(loop.open_B)

        def step(loop: _Loop) -> _Loop:
            index_B = jnp.broadcast_to(loop.index, B)
            token_B, _ = draw(loop.logits_BV, settings, index_B, loop.seen_BV)
            drawn_BN = loop.drawn_BN.at[:, loop.index].set(token_B)
            open_B = loop.open_B & (token_B != stop)
            logits_BV, cache = self.advance(params, loop.cache, token_B)
            seen_BV = mark_seen(loop.seen_BV, token_B)
            return _Loop(loop.index + 1, open_B, drawn_BN, logits_BV, cache, seen_BV)

        nothing_BN = jnp.zeros((B, self.context_length), jnp.int32)
        start = _Loop(jnp.int32(0), jnp.full(B, True), nothing_BN, logits_BV, cache, seen_BV)
        return jax.lax.while_loop(unfinished, step, start).drawn_BN


@functools.partial(jax.jit, static_argnames="alternatives")
def _draw(
    logits_BV: Array, settings: Rows, index_B: Array, seen_BV: Array | None, alternatives: int
) -> tuple[Array, Array, tuple[Array, ...], Array | None]:
    """Tokens, their log-probabilities, the alternatives, if wanted, and what is seen now."""
    token_B, logprob_B = draw(logits_BV, settings, index_B, seen_BV)
    others = likeliest(logits_BV, alternatives) if alternatives else ()
    return token_B, logprob_B, others, mark_seen(seen_BV, token_B)
