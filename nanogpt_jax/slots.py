"""Requests in the rows of one batch: they begin, go on together, pause and end, each on its own.

`Slots` is synchronous and keeps the books: which row belongs to whom, what was drawn, when it is
enough. What the device does is in decoding.py; queues, threads and clients are in serve/engine.py.
A request draws the same tokens whatever its slot and its neighbours do, with and without drafts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

from nanogpt_jax.decoding import MOST_ALTERNATIVES, Decoding, Draws, Start, State, put, take
from nanogpt_jax.interface import Params
from nanogpt_jax.sampling import Sampling, rows


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be continued, how, and until when.

    When the context is full, `slide` reads the last `context_length` tokens anew for every further
    token, as a model without a cache does for every token; `stop` ends there, and refuses a prompt
    that is longer. At most `decoding.MOST_ALTERNATIVES` alternatives are listed.
    """

    prompt: Sequence[int]
    sampling: Sampling
    max_tokens: int
    stop: frozenset[int] = frozenset()
    alternatives: int = 0
    overflow: Literal["slide", "stop"] = "slide"


class Progress(NamedTuple):
    """What a request has drawn since the last look; with `finish`, its slot is free again.

    `stop`: the next token was one of its stops, and is not listed. `length`: it has all it asked
    for, or the context is full.
    """

    drawn: list[Drawn]
    finish: Literal["stop", "length"] | None


class Proposer(Protocol):
    """Guesses the next tokens, so that one step of the model can check several.

    No guess changes what is drawn; good ones save steps.
    """

    tokens: int  # guesses at once, the same for every row

    def empty(self, count: int) -> Any:
        """What is remembered of `count` rows: `State.draft`."""
        ...

    def read(self, text: Sequence[int]) -> Any:
        """What is to be remembered of one row, after `text`."""
        ...

    def propose(
        self, state: State, texts: Sequence[Sequence[int] | None]
    ) -> tuple[Any, Any, State]:
        """(drafts_BK, how many of them each row has, state); `texts` of the rows that step."""
        ...


class Suspended(NamedTuple):
    """A request that gave its slot away, and all it needs to go on elsewhere."""

    running: Running
    row: State


@dataclasses.dataclass
class Running:
    """A request under way: its prompt and what it has drawn."""

    request: Request
    tokens: list[int]

    @property
    def index(self) -> int:
        """How many tokens were drawn."""
        return len(self.tokens) - len(self.request.prompt)


_put = jax.jit(put, donate_argnums=0)
_take = jax.jit(take)


class Slots:
    """`count` rows of one batch, with the parameters that they share."""

    def __init__(
        self, decoding: Decoding, params: Params, count: int, proposer: Proposer | None = None
    ):
        self._decoding = decoding
        self._params = decoding.prepare(params)
        self._proposer = proposer
        self._running: list[Running | None] = [None] * count
        self._state = decoding.empty(count, proposer.empty(count) if proposer else None)
        # Of a row that will never stand in the cache again.
        self._no_draft = proposer.empty(1) if proposer else None
        self.drafted = 0
        self.accepted = 0

    @property
    def count(self) -> int:
        """How many requests can be under way."""
        return len(self._running)

    @property
    def free(self) -> int:
        """How many more requests can begin."""
        return self._running.count(None)

    def check(self, request: Request) -> None:
        """ValueError for what cannot be begun, from any thread."""
        prompt, context = request.prompt, self._decoding.context_length
        if not prompt:
            raise ValueError("an empty prompt: at least one token is required, such as BOS")
        if not 0 <= min(prompt) <= max(prompt) < self._decoding.vocab_size:
            raise ValueError(
                f"tokens {min(prompt)} to {max(prompt)} in the prompt: the vocabulary has "
                f"{self._decoding.vocab_size}"
            )
        if request.overflow == "stop" and len(prompt) > context:
            raise ValueError(
                f"a prompt of {len(prompt)} tokens does not fit into the context of {context}; "
                "shorten it, or let the window slide"
            )
        if request.max_tokens < 1 or not 0 <= request.alternatives <= MOST_ALTERNATIVES:
            raise ValueError(
                f"max_tokens={request.max_tokens} must be at least 1, "
                f"alternatives={request.alternatives} at most {MOST_ALTERNATIVES}"
            )

    def begin(self, request: Request) -> tuple[int, Progress]:
        """Reads the prompt and draws the first token: the slot, and what it has drawn.

        ValueError for what `check` refuses.
        """
        self.check(request)
        slot = self._running.index(None)
        running = Running(request, list(request.prompt))
        drawn = self._draw_anew(slot, running)
        self._running[slot] = running
        return slot, self._take_in(slot, running, [drawn])

    def step(self) -> dict[int, Progress]:
        """Draws at least one token for every slot in use."""
        drawn: dict[int, list[Drawn]] = {}
        stepping = {slot: running for slot, running in self._in_use() if self._has_room(running, 1)}
        if stepping:
            drawn |= self._advance(stepping)
        for slot, running in self._in_use():
            if slot not in stepping:
                drawn[slot] = [self._draw_anew(slot, running)]
        return {slot: self._take_in(slot, running, drawn[slot]) for slot, running in self._in_use()}

    def close(self, slot: int) -> None:
        """Ends a request before its end."""
        self._running[slot] = None

    def suspend(self, slot: int) -> Suspended:
        """Frees a slot whose request is to go on later."""
        running = self._running[slot]
        assert running is not None, f"slot {slot} is not in use"
        self._running[slot] = None
        return Suspended(running, _take(self._state, np.int32(slot)))

    def resume(self, suspended: Suspended) -> int:
        """Goes on with a request, in any slot: as if it had never been interrupted."""
        slot = self._running.index(None)
        self._running[slot] = suspended.running
        self._state = _put(self._state, np.int32(slot), suspended.row)
        return slot

    def warm_up(self) -> None:
        """Compiles all that requests can need; ends when a token was drawn in every way."""
        K = self._proposer.tokens if self._proposer else 0
        lengths = self._decoding.lengths()
        # The first once more, because the state that a program leaves is not placed as `empty` is.
        for length in (lengths[0], *lengths):
            prompt = [0] * length
            slot, _ = self.begin(Request(prompt=prompt, sampling=Sampling(), max_tokens=K + 3))
            if length + 1 + K <= self._decoding.context_length:
                self.step()
                self.step()
            self.close(slot)
        if self._decoding.cached:
            slot, _ = self.begin(Request(prompt=[0], sampling=Sampling(), max_tokens=K + 3))
            self.resume(self.suspend(slot))
            plain = np.zeros((len(self._running), 0), np.int32)
            self._step_with(plain, np.zeros(len(self._running), np.int32), {})
            if self._proposer:
                drafts, drafted, self._state = self._proposer.propose(
                    self._state, [None] * len(plain)
                )
                self._step_with(drafts, drafted, {})
            self.close(slot)

    def _in_use(self) -> list[tuple[int, Running]]:
        return [(slot, running) for slot, running in enumerate(self._running) if running]

    def _has_room(self, running: Running, positions: int) -> bool:
        """Whether so many tokens, the last one drawn the first of them, fit into the cache."""
        read = len(running.tokens) - 1
        return self._decoding.cached and read + positions <= self._decoding.context_length

    def _draw_anew(self, slot: int, running: Running) -> Drawn:
        """The next token after reading the whole window."""
        request, proposer = running.request, self._proposer
        logits_1V, cache = self._decoding.read(self._params, [running.tokens])
        seen_1V = np.zeros((1, self._decoding.vocab_size), bool)
        seen_1V[0, running.tokens] = True
        draft = self._no_draft
        if proposer and len(running.tokens) < self._decoding.context_length:
            draft = proposer.read(running.tokens)
        index_1 = np.array([running.index], np.int32)
        start = Start(rows([request.sampling]), index_1, seen_1V, draft)
        draws, self._state = self._decoding.begin(
            self._state, slot, logits_1V, cache, start, listing=request.alternatives > 0
        )
        return _drawn(jax.device_get(draws), 0, request)[0]

    def _advance(self, stepping: dict[int, Running]) -> dict[int, list[Drawn]]:
        """One step of the rows that stand in the cache."""
        B, proposer = len(self._running), self._proposer
        drafts_BK: Any = np.zeros((B, 0), np.int32)
        drafted_B: Any = np.zeros(B, np.int32)
        if proposer:
            texts = [stepping[slot].tokens if slot in stepping else None for slot in range(B)]
            guesses, guessed_B, self._state = proposer.propose(self._state, texts)
            room = all(self._has_room(each, 1 + proposer.tokens) for each in stepping.values())
            if room and any(guessed_B[slot] for slot in stepping):
                drafts_BK, drafted_B = guesses, guessed_B
        draws = self._step_with(drafts_BK, drafted_B, stepping)
        drawn = {slot: _drawn(draws, slot, each.request) for slot, each in stepping.items()}
        self.drafted += sum(int(drafted_B[slot]) for slot in stepping)
        self.accepted += sum(len(each) - 1 for each in drawn.values())
        return drawn

    def _step_with(self, drafts_BK: Any, drafted_B: Any, stepping: dict[int, Running]) -> Draws:
        active_B = np.array([slot in stepping for slot in range(len(self._running))])
        listing = any(each.request.alternatives for each in stepping.values())
        draws, self._state = self._decoding.step(
            self._params, self._state, active_B, drafts_BK, drafted_B, listing=listing
        )
        return jax.device_get(draws)

    def _take_in(self, slot: int, running: Running, drawn: list[Drawn]) -> Progress:
        """Notes what was drawn, up to the end of the request."""
        request, taken = running.request, []
        finish: Literal["stop", "length"] | None = None
        for each in drawn:
            if each.token in request.stop:
                finish = "stop"
                break
            taken.append(each)
            running.tokens.append(each.token)
            # The last token of all is drawn and not read, so it may stand one beyond the context.
            full = len(running.tokens) > self._decoding.context_length
            if running.index >= request.max_tokens or (full and request.overflow == "stop"):
                finish = "length"
                break
        if finish:
            self._running[slot] = None
        return Progress(taken, finish)


def _drawn(draws: Draws, slot: int, request: Request) -> list[Drawn]:
    """What a row has drawn, as values of the host."""
    found = []
    for place in range(int(draws.count_B[slot])):
        token, logprob = int(draws.tokens_BT[slot, place]), float(draws.logprobs_BT[slot, place])
        tokens = draws.others_BTA[slot, place, : request.alternatives].tolist()
        logprobs = draws.other_logprobs_BTA[slot, place, : request.alternatives].tolist()
        others = (
            # Summed up in another program, its own could differ in the last bit.
            Alternative(other, logprob if other == token else each)
            for other, each in zip(tokens, logprobs, strict=True)
        )
        found.append(Drawn(token, logprob, tuple(others)))
    return found
