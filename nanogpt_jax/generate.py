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

# A cache shorter than this is not worth a program of its own.
LEAST_ROOM = 64


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

        Every step reads the whole cache, so its room doubles as the rows grow, with a program for
        each length: 100 tokens of 32 rows took 0.79 ms a step instead of 0.86 (4 layers of 128).
        """
        params, settings = self.prepare(params), rows(samplings)
        logits_BV, cache = self.read_to_continue(params, prompts, max_tokens)
        seen_BV = seen_tokens(prompts, samplings, logits_BV.shape[1])
        loop = self._start(logits_BV, cache, seen_BV)
        for room, until in self._rooms(max(map(len, prompts)), max_tokens):
            loop = loop._replace(cache=_resize(loop.cache, room))
            loop = self._run(params, loop, settings, until, stop)
            if not np.any(loop.open_B):
                break
        drawn = np.asarray(loop.drawn_BN)[:, :max_tokens].tolist()
        return [row[: row.index(stop)] if stop in row else row for row in drawn]

    def temporary_bytes(self, params: Params, batch: int) -> int:
        """What the loop of `complete` holds beside parameters and cache, as the compiler tells."""
        params = self.prepare(params)
        greedy = rows([Sampling(temperature=0.0)] * batch)
        loop = jax.eval_shape(
            lambda: self._start(*self.read_to_continue(params, [[0]] * batch, 1), None)
        )
        program = self._run.lower(params, loop, greedy, 1, 0)
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

    def _start(self, logits_BV: Array, cache: KVCache, seen_BV: Array | None) -> _Loop:
        """Prompts read, nothing drawn."""
        open_B = jnp.full(len(logits_BV), True)
        drawn_BN = jnp.zeros((len(logits_BV), self.context_length), jnp.int32)
        return _Loop(jnp.int32(0), open_B, drawn_BN, logits_BV, cache, seen_BV)

    def _rooms(self, longest: int, max_tokens: int) -> Iterator[tuple[int, int]]:
        """Lengths of the cache in turn, and how many tokens to have drawn at the end of each."""
        wanted = min(longest + max_tokens, self.context_length)
        for room in self.decoding.lengths():
            if room >= wanted:
                yield room, max_tokens
                return
            if room > longest and room >= LEAST_ROOM:
                yield room, room - longest

    def _draw_until(
        self, params: Params, loop: _Loop, settings: Rows, until: Array, stop: Array
    ) -> _Loop:
        """The loop when each row has drawn `until` tokens or has drawn `stop`."""

        def unfinished(loop: _Loop) -> Array:
            return (loop.index < until) & jnp.any(loop.open_B)

        def step(loop: _Loop) -> _Loop:
            index_B = jnp.broadcast_to(loop.index, loop.open_B.shape)
            token_B, _ = draw(loop.logits_BV, settings, index_B, loop.seen_BV)
            drawn_BN = loop.drawn_BN.at[:, loop.index].set(token_B)
            open_B = loop.open_B & (token_B != stop)
            logits_BV, cache = self.decoding.advance(params, loop.cache, token_B)
            seen_BV = mark_seen(loop.seen_BV, token_B)
            return _Loop(loop.index + 1, open_B, drawn_BN, logits_BV, cache, seen_BV)

        return jax.lax.while_loop(unfinished, step, loop)


@functools.partial(jax.jit, static_argnums=1)
def _resize(cache: KVCache, length: int) -> KVCache:
    """`cache` with room for `length` positions; whatever was read must lie within."""

    def resize(kept_BKSC: Array) -> Array:
        missing = max(length - kept_BKSC.shape[2], 0)
        return jnp.pad(kept_BKSC[:, :, :length], ((0, 0), (0, 0), (0, missing), (0, 0)))

    keys, values = jax.tree.map(resize, cache[:2])
    return cache._replace(keys=keys, values=values)
