"""Generation in one go: a text as it is drawn, an answer, or many texts side by side.

`Generator` is for whoever has parameters and a prompt; requests that come and go have slots.py, and
in the server serve/engine.py. Which token is drawn, sampling.py says; what becomes of the text,
stops.py; beams are in beam.py.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.decoding import Decoding
from nanogpt_jax.errors import NanogptError
from nanogpt_jax.interface import Array, KVCache, LanguageModel, Params
from nanogpt_jax.sampling import Rows, Sampling, draw, mark_seen, rows, seen_tokens
from nanogpt_jax.slots import Drawn, Proposer, Request, Slots


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
        self.decoding = Decoding(model, context_length)
        self._run = jax.jit(self._draw_until, donate_argnums=1)

    @staticmethod
    def prepare(params: Params) -> Params:
        """`Decoding.prepare`, for who generates more than once."""
        return Decoding.prepare(params)

    def stream(
        self,
        params: Params,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        max_tokens: int,
        stop: Collection[int] = (),
        alternatives: int = 0,
        proposer: Proposer | None = None,
    ) -> Iterator[Drawn]:
        """Tokens as they are drawn, up to `max_tokens` or before one of `stop`.

        The window slides. A repetition penalty remembers the whole prompt and all that was drawn,
        even what the window has left behind.
        """
        if max_tokens < 1:
            return
        slots = Slots(self.decoding, params, 1, proposer)
        request = Request(
            prompt=prompt,
            sampling=sampling,
            max_tokens=max_tokens,
            stop=frozenset(stop),
            alternatives=alternatives,
        )
        slot, progress = slots.begin(request)
        yield from progress.drawn
        while progress.finish is None:
            progress = slots.step()[slot]
            yield from progress.drawn

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
        # Every step reads the whole cache: at GPT-2's size a context of 1024 is an eighth of it.
        wanted = min(max(map(len, prompts)) + max_tokens, self.context_length)
        room = next(length for length in self.decoding.lengths() if length >= wanted)
        cache = cache if room == self.context_length else _shorten(cache, room)
        seen_BV = seen_tokens(prompts, samplings, logits_BV.shape[1])
        drawn_BN, _ = self._run(
            params, cache, logits_BV, rows(samplings), max_tokens, stop, seen_BV
        )
        drawn = np.asarray(drawn_BN)[:, :max_tokens].tolist()
        return [row[: row.index(stop)] if stop in row else row for row in drawn]

    def temporary_bytes(self, params: Params, batch: int) -> int:
        """What the loop of `complete` holds beside parameters and cache, as the compiler tells."""
        greedy = rows([Sampling(temperature=0.0)] * batch)
        logits_BV, cache = jax.eval_shape(
            lambda params: self.decoding.read(params, [[0]] * batch), self.prepare(params)
        )
        program = self._run.lower(self.prepare(params), cache, logits_BV, greedy, 1, 0, None)
        if (held := program.compile().memory_analysis()) is None:
            raise NanogptError(f"{jax.default_backend()} does not tell what programs hold; use cpu")
        return held.temp_size_in_bytes

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
        logits_BV, cache = self.decoding.read(params, prompts)
        if cache is None:
            raise ValueError("this model keeps no cache and cannot complete; stream instead")
        return logits_BV, cache

    def _draw_until(
        self,
        params: Params,
        cache: KVCache,
        logits_BV: Array,
        settings: Rows,
        max_tokens: Array,
        stop: Array,
        seen_BV: Array | None,
    ) -> tuple[Array, KVCache]:
        """Tokens of B rows, drawn until each has drawn `stop`, at most `max_tokens`.

        The cache comes out only so that the one that goes in is written in place.
        """
        B = len(logits_BV)

        def unfinished(loop: _Loop) -> Array:
            return (loop.index < max_tokens) & jnp.any(loop.open_B)

        def step(loop: _Loop) -> _Loop:
            index_B = jnp.broadcast_to(loop.index, B)
            token_B, _ = draw(loop.logits_BV, settings, index_B, loop.seen_BV)
            drawn_BN = loop.drawn_BN.at[:, loop.index].set(token_B)
            open_B = loop.open_B & (token_B != stop)
            logits_BV, cache = self.decoding.advance(params, loop.cache, token_B)
            seen_BV = mark_seen(loop.seen_BV, token_B)
            return _Loop(loop.index + 1, open_B, drawn_BN, logits_BV, cache, seen_BV)

        nothing_BN = jnp.zeros((B, self.context_length), jnp.int32)
        start = _Loop(jnp.int32(0), jnp.full(B, True), nothing_BN, logits_BV, cache, seen_BV)
        end = jax.lax.while_loop(unfinished, step, start)
        return end.drawn_BN, end.cache


@functools.partial(jax.jit, static_argnums=1)
def _shorten(cache: KVCache, length: int) -> KVCache:
    """The first places of `cache`, which hold all that was read."""
    keys, values = jax.tree.map(lambda kept_BKSC: kept_BKSC[:, :, :length], cache[:2])
    return cache._replace(keys=keys, values=values)
