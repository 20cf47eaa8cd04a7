"""The client of `bench serve` sees what a server does, when it does it; servers come and go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nanogpt_jax.bench import load, serve
from nanogpt_jax.bench.figures import Limits
from nanogpt_jax.bench.load import (
    Answer,
    Phase,
    Target,
    arrivals,
    ask,
    ask_on_time,
    keep_asking,
)
from nanogpt_jax.bench.servers import fetch, started
from nanogpt_jax.errors import ConfigError, NanogptError

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]


def test_arrivals_are_a_poisson_process_that_its_seed_decides():
    moments = arrivals(50.0, 400.0, seed=1)
    assert moments == arrivals(50.0, 400.0, seed=1) != arrivals(50.0, 400.0, seed=2)
    assert moments == sorted(moments) and 0 < moments[0] and moments[-1] < 400
    assert len(moments) == pytest.approx(20_000, abs=5 * math.sqrt(20_000))
    gaps = np.diff(moments)
    # Of an exponential distribution the mean is the deviation, and a share of 1/e is above it.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert (gaps > gaps.mean()).mean() == pytest.approx(math.exp(-1), abs=0.02)


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: %s\n\n" % json.dumps({"choices": [choice], "usage": None}).encode()


USAGE = b'data: {"choices": [], "usage": {"completion_tokens": 7}}\n\n'
DONE = b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


async def read_request(reader: Reader) -> tuple[bytes, Any]:
    """The first line and the body of a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    return head.split(b"\r\n")[0], json.loads(await reader.readexactly(length))


@contextlib.asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[Target]:
    """A server whose connections `handle` answers, and this closes."""

    async def connected(reader: Reader, writer: Writer) -> None:
        with contextlib.closing(writer):
            await handle(reader, writer)
            await writer.drain()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield Target(server.sockets[0].getsockname()[1])


def answer_to(*pieces: bytes, pause_seconds: float = 0.0) -> Answer:
    """What the client makes of these pieces, and their pauses."""

    async def handle(reader: Reader, writer: Writer) -> None:
        assert await read_request(reader) == (b"POST /v1/completions HTTP/1.0", {"n": 1})
        for piece in pieces:
            await asyncio.sleep(pause_seconds)
            writer.write(piece)

    async def talk() -> Answer:
        async with serving(handle) as target:
            return await ask(target, b'{"n": 1}')

    return asyncio.run(talk())


def test_a_stream_is_timed_by_its_pieces_and_counted_by_the_server():
    pieces = (HEAD, event("a"), event(""), event("b"), event("", "length"), USAGE + DONE)
    answer = answer_to(*pieces, pause_seconds=0.01)
    assert (answer.status, answer.tokens, len(answer.texts)) == (200, 7, 2)
    # Timers of the loop may come early by what its clock cannot tell apart.
    assert answer.ttft_seconds > 0.019 and answer.gaps_seconds[0] > 0.019
    assert answer.texts[-1] + 0.009 < answer.ended < answer.texts[-1] + answer.e2e_seconds


def test_a_refusal_says_when_to_come_again_or_does_not():
    refusal = b"HTTP/1.1 503 Service Unavailable\r\n%s\r\n{}"
    answer = answer_to(refusal % b"Retry-After: 3\r\n")
    assert (answer.status, answer.retry_after, answer.texts) == (503, True, ())
    assert not answer_to(refusal % b"Server: x\r\n").retry_after


@pytest.mark.parametrize(
    "pieces", [(), (HEAD, event("a")), (HEAD, event("a"), b'data: {"error": {}}\n\n')]
)
def test_a_stream_without_its_end_is_broken(pieces: tuple[bytes, ...]):
    assert answer_to(*pieces).status == 0


def test_a_server_that_is_not_there_breaks_every_answer():
    async def talk() -> Answer:
        async with serving(lambda reader, writer: asyncio.sleep(0)) as target:
            pass
        return await ask(target, b"{}")

    assert asyncio.run(talk()).status == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_the_server_sees_the_address_that_a_client_asks_from():
    peers = []

    async def handle(reader: Reader, writer: Writer) -> None:
        peers.append(writer.get_extra_info("peername")[0])

    async def talk() -> None:
        async with serving(handle) as target:
            for source in (serve.HOG, serve.LIGHT):
                await ask(target._replace(source=source), b"{}")

    asyncio.run(talk())
    assert peers == ["127.0.0.2", "127.0.0.1"]


def test_an_open_loop_sends_whether_or_not_anybody_answers():
    asked: list[int] = []

    async def talk() -> Phase:
        all_came = asyncio.Event()

        async def handle(reader: Reader, writer: Writer) -> None:
            asked.append((await read_request(reader))[1])
            if len(asked) == 12:
                all_came.set()
            await all_came.wait()
            writer.write(HEAD + event("a", "length") + USAGE + DONE)

        async with serving(handle) as target:
            return await ask_on_time(target, [b"0", b"1", b"2"], arrivals(600.0, 1.0, 0)[:12])

    phase = asyncio.run(talk())
    assert [each.status for each in phase.answers] == [200] * 12
    assert sorted(asked) == sorted([0, 1, 2] * 4)
    assert phase.seconds >= phase.answers[-1].e2e_seconds > 0


def test_a_closed_loop_waits_for_answers(monkeypatch: pytest.MonkeyPatch):
    under_way, most, now = 0, 0, 0.0
    # A hundredth of a second for each answer, however long it takes.
    clock = SimpleNamespace(monotonic=lambda: now, process_time=time.process_time)
    monkeypatch.setattr(load, "time", clock)

    async def talk() -> Phase:
        all_came = asyncio.Event()

        async def handle(reader: Reader, writer: Writer) -> None:
            nonlocal under_way, most, now
            await read_request(reader)
            under_way += 1
            most = max(most, under_way)
            if under_way == 3:
                all_came.set()
            await all_came.wait()
            await asyncio.sleep(0.005)
            under_way -= 1
            now += 0.01
            writer.write(HEAD + event("a", "length") + USAGE + DONE)

        async with serving(handle) as target:
            return await keep_asking(target, [b"0"], 3, 0.1)

    phase = asyncio.run(talk())
    assert most == 3 < len(phase.answers)
    assert all(each.sent < phase.started + 0.1 for each in phase.answers)


def test_prompts_are_pieces_of_the_words_and_the_same_every_time():
    words = list(range(100, 160))
    bodies = serve.draw_bodies("run", words, (8, 40), 20, 50)
    assert bodies == serve.draw_bodies("run", words, (8, 40), 20, 50)
    forms = [json.loads(body) for body in bodies]
    lengths = {len(form["prompt"]) for form in forms}
    assert lengths <= {*range(8, 41)} and len(lengths) > 10
    assert all(
        np.diff(form["prompt"]).tolist() == [1] * (len(form["prompt"]) - 1) for form in forms
    )
    assert {form["temperature"] for form in forms} == {0} and forms[0]["stream"]
    short = serve.draw_bodies("run", words, (8, 3), 20, 5)
    assert {len(json.loads(body)["prompt"]) for body in short} == {3}


SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
        self.wfile.write(repr([os.environ.get("NANOGPT_JAX_RATE"), os.environ["OWN"]]).encode()
                         .replace(b"None", b"null").replace(b"'", b'"'))
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"serving on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""


def test_a_server_lives_as_long_as_its_block_and_knows_no_caps_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "small_server.py").write_text(SERVER)
    monkeypatch.setenv("NANOGPT_JAX_RATE", "1")
    variables = {"PYTHONPATH": str(tmp_path), "OWN": "1"}
    with started("small_server", [], variables) as port:
        assert fetch(port, "GET", "/ready") == [None, "1"]
        with pytest.raises(NanogptError, match="/other answers 404"):
            fetch(port, "GET", "/other")
    with pytest.raises(ConnectionRefusedError):
        fetch(port, "GET", "/ready")


def test_a_server_that_does_not_start_is_quoted():
    with pytest.raises(NanogptError, match=r"(?s)json.tool did not start: .*--nonsense"):
        with started("json.tool", ["--nonsense"], {}):
            pass


def test_answers_that_leave_no_room_for_a_prompt_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held = SimpleNamespace(shape=SimpleNamespace(max_seq_len=48))
    monkeypatch.setattr("nanogpt_jax.record.read", lambda workdir: held)
    plan = serve.Plan(
        workdir=tmp_path,
        step="last",
        peer="",
        peer_threads=1,
        seconds=1.0,
        max_tokens=48,
        slots=2,
        queue_length=4,
        limits=Limits(1.0, 0.1),
    )
    with pytest.raises(ConfigError, match="--max_tokens=48: at most 47 are required"):
        serve.measure(plan, print)
