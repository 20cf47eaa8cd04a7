"""Tokens from the engine's thread become pieces of text in asyncio.

A `Completion` listens to one generation: it decodes, ends before a stop string and keeps each
token's log-probability beside the text that it is a part of. `Completions` are those of one
request, read together. No form of any API is known here, and nothing is sampled.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nanogpt_jax import slots
from nanogpt_jax.errors import NanogptError
from nanogpt_jax.serve.engine import Engine, Finish, Listener, Ticket
from nanogpt_jax.stops import StopStrings
from nanogpt_jax.tokenization import Tokenizer

Value = TypeVar("Value")


class GenerationFailed(NanogptError):
    """The engine could not go on with a request; its log says why."""


class Written(NamedTuple):
    """A drawn token, and how many characters of the completion come before it."""

    drawn: slots.Drawn
    offset: int


class Piece(NamedTuple):
    """What has become certain of a completion; its last piece has a `finish`.

    A token comes with the text in which it begins. One that is a part of a stop string comes not
    at all, so `drawn`, the number of tokens so far, may be more than came.
    """

    choice: int
    text: str
    tokens: tuple[Written, ...]
    drawn: int
    finish: Finish | None = None

    def joined(self, following: Piece) -> Piece:
        """Both as one."""
        text, tokens = self.text + following.text, self.tokens + following.tokens
        return following._replace(text=text, tokens=tokens)


class Completion:
    """The engine's listener for one generation: it hands pieces to `deliver`, in its thread."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str],
        deliver: Callable[[Piece], None],
        choice: int = 0,
    ):
        self._decoder = tokenizer.decoder()
        self._ending = StopStrings(stops)
        self._deliver = deliver
        self._choice = choice
        self._waiting: list[Written] = []
        self._drawn = self._decoded = self._given = 0  # tokens, and characters

    def draw(self, drawn: slots.Drawn) -> bool:
        """Take one more token; False when a stop string is complete."""
        text = self._decoder.push(drawn.token)
        self._waiting.append(Written(drawn, self._decoded))
        self._drawn += 1
        self._decoded += len(text)
        self._give(self._ending.push(text))
        return self._ending.found is None

    def finish(self, reason: Finish) -> None:
        """Give what was held back, now that nothing follows."""
        rest = self._ending.push(self._decoder.flush()) + self._ending.flush()
        # Half a character at the end is U+FFFD, which may complete a stop string.
        stopped = self._ending.found is not None and reason == "length"
        self._give(rest, "stop" if stopped else reason)

    def _give(self, text: str, finish: Finish | None = None) -> None:
        self._given += len(text)
        known = len(self._waiting)
        if finish is None or self._ending.found is not None:
            known = sum(written.offset < self._given for written in self._waiting)
        tokens, self._waiting = tuple(self._waiting[:known]), self._waiting[known:]
        if text or tokens or finish:
            self._deliver(Piece(self._choice, text, tokens, self._drawn, finish))


class Mailbox:
    """Pieces on their way from the engine's thread to the event loop of all requests.

    The loop is woken once for all that arrives before it looks: to wake it costs a system call,
    in which the engine would have to leave the interpreter to others.
    """

    def __init__(self):
        self._arrived: collections.deque[tuple[asyncio.Queue[Piece], Piece]] = collections.deque()
        self._called = False

    def send(self, piece: Piece, to: asyncio.Queue[Piece], loop: asyncio.AbstractEventLoop) -> None:
        """Called in the engine's thread."""
        self._arrived.append((to, piece))
        if not self._called:  # else it is still to look, and finds this one too
            self._called = True
            try:
                loop.call_soon_threadsafe(self._hand_out)
            except RuntimeError:  # the loop is closed: nobody reads any more
                self._called = False
                self._arrived.clear()

    def _hand_out(self) -> None:
        self._called = False
        while self._arrived:
            to, piece = self._arrived.popleft()
            to.put_nowait(piece)


class Completions:
    """The completions of one request; leaving the `with` block ends those under way.

    `timed` wraps a listener in one that measures.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        client: str,
        mailbox: Mailbox,
        timed: Callable[[Listener], Listener] = lambda listener: listener,
    ):
        self._engine = engine
        self._tokenizer = tokenizer
        self._client = client
        self._mailbox = mailbox
        self._timed = timed
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._tickets: dict[int, Ticket] = {}  # of those under way, by choice
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for ticket in self._tickets.values():
            self._engine.cancel(ticket)
        self._tickets.clear()

    def submit(self, request: slots.Request, stops: Sequence[str] = ()) -> None:
        """Start one more, numbered in order; raises what `Engine.submit` does."""
        listener = Completion(self._tokenizer, stops, self._post, self._count)
        ticket = self._engine.submit(request, self._timed(listener), client=self._client)
        self._tickets[self._count] = ticket
        self._count += 1

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Pieces as they come, those of several completions mixed; GenerationFailed at the first.

        What has come meanwhile of a completion comes as one piece, so who reads slowly has less to
        read. The pieces can be read once.
        """
        while self._tickets:
            piece = await self._pieces.get()
            come = {piece.choice: piece}
            while not self._pieces.empty():
                piece = self._pieces.get_nowait()
                before = come.get(piece.choice)
                come[piece.choice] = before.joined(piece) if before else piece
            for piece in come.values():
                if piece.finish is not None:
                    self._tickets.pop(piece.choice, None)
                if piece.finish == "error":
                    raise GenerationFailed("the generation failed; the server's log says why")
                yield piece

    async def join(self) -> list[Piece]:
        """One piece for each completion, in order: the whole of it."""
        whole = [Piece(choice, "", (), 0) for choice in range(self._count)]
        async for piece in self:
            whole[piece.choice] = whole[piece.choice].joined(piece)
        return whole

    def _post(self, piece: Piece) -> None:
        self._mailbox.send(piece, self._pieces, self._loop)


class EventStream(StreamingResponse):
    """Server-sent events of some completions, which end when the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, completions: Completions, events: AsyncIterator[str]):
        # Proxies that buffer answers would keep a stream until its end.
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._completions = completions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._completions:
            await super().__call__(scope, receive, send)


async def while_connected(request: Request, work: Coroutine[Any, Any, Value]) -> Value:
    """What `work` returns; it is cancelled, and ClientDisconnect raised, when the client leaves.

    The body of `request` must have been read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
