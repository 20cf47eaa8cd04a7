"""The bridge from tokens in the engine's thread to pieces of text in asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from nanogpt_jax import slots
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.serve.completions import (
    Completion,
    Completions,
    EventStream,
    GenerationFailed,
    Mailbox,
    Piece,
    while_connected,
)
from nanogpt_jax.serve.engine import Finish, Listener
from nanogpt_jax.tokenization.decoder import Decoder

EMOJI = "🙂".encode()
# 0 to 3 are the bytes of one emoji, 4 and 5 words, 6 the ends of two characters at once.
TOKENS = [*(bytes([byte]) for byte in EMOJI), b"stop", b" now", b"\xc3\xa9"]
REQUEST = slots.Request(prompt=(1,), sampling=Sampling(), max_tokens=8)


class Bytes:
    """A tokenizer that can only decode."""

    def decoder(self) -> Decoder:
        return Decoder(TOKENS.__getitem__)


BYTES: Any = Bytes()


class Scripted:
    """An engine whose requests draw the same tokens, in a thread of its own."""

    def __init__(self, tokens: list[int], finish: Finish = "length"):
        self.tokens = tokens
        self.reason: Finish = finish
        self.cancelled: list[int] = []
        self.threads: list[threading.Thread] = []

    def submit(self, request: slots.Request, listener: Listener, *, client: str) -> int:
        def run() -> None:
            reason = self.reason
            for token in self.tokens:
                if not listener.draw(slots.Drawn(token, -1.0)):
                    reason = "stop"
                    break
            listener.finish(reason)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        return len(self.threads) - 1

    def cancel(self, ticket: int) -> None:
        self.cancelled.append(ticket)


class Silent(Scripted):
    """An engine that never draws."""

    def submit(self, request: slots.Request, listener: Listener, *, client: str) -> int:
        return 0


class InTurns(Scripted):
    """An engine that draws a token of each request in turn, as a batch does, when it is told to."""

    def __init__(self, tokens: list[int]):
        super().__init__(tokens)
        self.listeners: list[Listener] = []

    def submit(self, request: slots.Request, listener: Listener, *, client: str) -> int:
        self.listeners.append(listener)
        return len(self.listeners) - 1

    def draw(self) -> None:
        """Draw all tokens of all requests, in a thread of its own, and return when it has ended."""

        def run() -> None:
            for token in self.tokens:
                assert all(listener.draw(slots.Drawn(token, -1.0)) for listener in self.listeners)
            for listener in self.listeners:
                listener.finish(self.reason)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()


def pieces_of(tokens: list[int], stops: list[str], reason: Finish = "length") -> list[Piece]:
    """What a completion delivers for `tokens`, ended as an engine would."""
    pieces: list[Piece] = []
    completion = Completion(BYTES, stops, pieces.append)
    if not all(completion.draw(slots.Drawn(token, -float(token))) for token in tokens):
        reason = "stop"
    completion.finish(reason)
    return pieces


def listed(pieces: list[Piece]) -> list[tuple[int, int]]:
    """(token, offset) of all that came."""
    return [(written.drawn.token, written.offset) for piece in pieces for written in piece.tokens]


def test_a_character_of_four_tokens_comes_as_one_piece_of_text():
    pieces = pieces_of([0, 1, 2, 3, 4], [])
    assert [piece.text for piece in pieces] == ["🙂", "stop", ""]
    assert [len(piece.tokens) for piece in pieces] == [4, 1, 0]
    assert listed(pieces) == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]
    assert [piece.finish for piece in pieces] == [None, None, "length"]


def test_a_stop_string_across_tokens_ends_the_generation_and_is_not_given():
    completion = Completion(BYTES, ["op n"], (pieces := []).append)
    assert completion.draw(slots.Drawn(4, -1.0))
    assert not completion.draw(slots.Drawn(5, -1.0))
    completion.finish("stop")
    assert "".join(piece.text for piece in pieces) == "st"
    assert listed(pieces) == [(4, 0)]  # " now" lies in the stop string
    assert pieces[-1].finish == "stop"
    assert pieces[-1].drawn == 2


def test_text_that_began_like_a_stop_string_is_given_when_nothing_follows():
    pieces = pieces_of([4], ["stop here"])
    assert [(piece.text, piece.finish) for piece in pieces] == [("stop", "length")]
    assert listed(pieces) == [(4, 0)]


def test_half_a_character_at_the_end_is_a_replacement_that_may_complete_a_stop_string():
    assert pieces_of([4, 0], [])[-1].text == "\ufffd"
    last = pieces_of([4, 0], ["\ufffd"])[-1]
    assert (last.text, last.finish) == ("", "stop")


def test_an_abort_stays_an_abort():
    assert pieces_of([4], [], "abort")[-1].finish == "abort"


def read(engine: Any, count: int = 1, stops: tuple[str, ...] = ()) -> list[Piece]:
    async def run() -> list[Piece]:
        with Completions(engine, BYTES, client="me", mailbox=Mailbox()) as completions:
            for _ in range(count):
                completions.submit(REQUEST, stops)
            return await completions.join()

    return asyncio.run(run())


def test_several_completions_are_read_together_and_joined_apart():
    engine = Scripted([4, 0, 1, 2, 3, 5])
    pieces = read(engine, 3)
    assert [piece.choice for piece in pieces] == [0, 1, 2]
    assert {piece.text for piece in pieces} == {"stop🙂 now"}
    assert {piece.drawn for piece in pieces} == {6}
    assert [len(piece.tokens) for piece in pieces] == [6, 6, 6]
    assert engine.cancelled == []


def test_the_loop_is_woken_once_for_all_that_came_and_who_reads_late_gets_one_piece():
    async def run() -> tuple[list[Piece], int]:
        woken = 0
        loop: Any = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe

        def count(*words: Any) -> Any:
            nonlocal woken
            woken += 1
            return wake(*words)

        loop.call_soon_threadsafe = count
        engine: Any = InTurns([4, 0, 1, 2, 3, 5])
        with Completions(engine, BYTES, client="me", mailbox=Mailbox()) as it:
            for _ in range(3):
                it.submit(REQUEST)
            engine.draw()  # the loop cannot look before it is over
            return [piece async for piece in it], woken

    pieces, woken = asyncio.run(run())
    assert woken == 1
    assert [(piece.choice, piece.text, piece.finish) for piece in pieces] == [
        (choice, "stop🙂 now", "length") for choice in range(3)
    ]


def test_a_failure_of_the_engine_is_raised_and_ends_the_others():
    engine = Scripted([4], "error")
    with pytest.raises(GenerationFailed):
        read(engine, 2)
    assert len(engine.cancelled) == 1


def test_leaving_early_cancels_what_is_under_way():
    engine: Any = Silent([])

    async def run() -> None:
        with Completions(engine, BYTES, client="me", mailbox=Mailbox()) as completions:
            completions.submit(REQUEST)
            await asyncio.wait_for(completions.join(), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(run())
    assert engine.cancelled == [0]


def test_an_engine_that_outlives_the_loop_is_not_disturbed():
    async def run() -> Callable[[Piece], None]:
        return Completions(engine, BYTES, client="me", mailbox=Mailbox())._post

    engine: Any = Silent([])
    deliver = asyncio.run(run())
    completion = Completion(BYTES, [], deliver)
    assert completion.draw(slots.Drawn(4, -1.0))
    completion.finish("cancelled")


def request_that_ends(seconds: float) -> Request:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


def test_work_ends_when_the_client_leaves():
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)

    async def run() -> None:
        with pytest.raises(ClientDisconnect):
            await while_connected(request_that_ends(0.01), work())
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == [True]


def test_work_of_a_client_that_stays_gives_its_value_or_its_error():
    async def give() -> int:
        return 5

    async def fail() -> int:
        raise ValueError("no")

    assert asyncio.run(while_connected(request_that_ends(10), give())) == 5
    with pytest.raises(ValueError, match="no"):
        asyncio.run(while_connected(request_that_ends(10), fail()))


@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_a_stream_whose_client_leaves_cancels_its_generation(version: str):
    """Servers of either version of the protocol: told by `receive`, or by `send` that fails."""
    engine: Any = Silent([])

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if version == "2.4" and message["type"] == "http.response.body":
            raise OSError

    async def events():
        yield "data: 1\n\n"
        await asyncio.sleep(10)

    async def run() -> None:
        completions = Completions(engine, BYTES, client="me", mailbox=Mailbox())
        completions.submit(REQUEST)
        stream = EventStream(completions, events())
        scope = {"type": "http", "asgi": {"spec_version": version}}
        try:
            await stream(scope, receive, send)
        except ClientDisconnect:
            assert version == "2.4"

    asyncio.run(run())
    assert engine.cancelled == [0]
