"""Clients that leave, dawdle or say nothing cost little, and nobody else notices them.

Deadlines are short here, which changes nothing but how long a test waits; with those of the command
and hundreds of connections it is `slow`. One slow connection by itself is in test_connection.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.connection import Patience
from nanogpt_jax.serve.engine import Engine
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.policy import Policy
from nanogpt_jax.serve.service import Service
from nanogpt_jax.slots import Request, Slots
from tests.serve.live import connect, lap, read_until, serving
from tests.serve.process import started

BACK_SECONDS = 2.0
MOST_TOKENS_AFTER_CLOSE = 16
MOST_GROWN_BYTES = 50_000_000
QUEUED = 200
ENDLESS = 1_000_000
SHORT_SECONDS = 3.0  # longer than a busy machine keeps one waiting who means to be quick
HEAD = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
# Where an event begins: a header, which comes before, allows images from "data: " too.
EVENT = b"\ndata: "
# /api/generate slides its window, so that it has no end of its own; /v1 ends with the context.
CAPS = Caps(rate=0, max_tokens=ENDLESS, queue_length=2 * QUEUED)
# The command, whose engine asks its own server for something before every step.
LAPPED = """
import contextlib
from nanogpt_jax.serve import lifecycle
from nanogpt_jax.slots import Slots
from tests.serve.live import lap

ports, bind, step = [], lifecycle.bind, Slots.step

def bind_and_note(host, port):
    listener = bind(host, port)
    ports.append(listener.getsockname()[1])
    return listener

def lap_and_step(slots):
    with contextlib.suppress(ConnectionRefusedError):  # it does not listen yet, to warm up
        lap(*ports)
    return step(slots)

lifecycle.bind, Slots.step = bind_and_note, lap_and_step
"""


def request(path: str, body: dict[str, Any]) -> bytes:
    """A whole request as bytes."""
    encoded = json.dumps(body).encode()
    return HEAD % path.encode() + b"content-length: %d\r\n\r\n" % len(encoded) + encoded


STREAM = request(
    "/v1/completions", {"model": "run", "prompt": "1", "max_tokens": 60, "stream": True}
)
GENERATE = request("/api/generate", {"prompt": "1", "max_tokens": ENDLESS, "temperature": 1.0})
# Of several megabytes in all, which no kernel holds for who does not read.
LARGE = 100 * b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def service(workdir: Path) -> Iterator[Service]:
    """Two slots and a long queue, ready."""
    service = Service(workdir, slots=2, queue_length=CAPS.queue_length)
    engine = service.current().engine
    until(lambda: engine.state == "ready")
    yield service
    engine.close()


@pytest.fixture(scope="module")
def abused(service: Service) -> Iterator[tuple[Engine, int]]:
    """The engine, and the port of its server."""
    with serving(build_app(service, CAPS)) as port:
        yield service.current().engine, port


@pytest.fixture(scope="module")
def impatient(service: Service) -> Iterator[int]:
    """The port of a server with short deadlines."""
    app = build_app(service, CAPS, policy=Policy(receive_seconds=SHORT_SECONDS))
    patience = Patience(receive_seconds=SHORT_SECONDS, write_seconds=SHORT_SECONDS)
    with serving(app, patience) as port:
        yield port


def until(true: Callable[[], object], seconds: float = 60.0) -> float:
    """The seconds until it is true."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.002)
    return time.monotonic() - began


def test_a_stream_whose_client_closes_ends_at_once(
    abused: tuple[Engine, int], monkeypatch: pytest.MonkeyPatch
):
    engine, port = abused
    step = Slots.step

    def lap_and_step(slots: Slots) -> Any:
        lap(port)  # tokens are counted by the turns of the event loop, however it is held up
        return step(slots)

    monkeypatch.setattr(Slots, "step", lap_and_step)
    cancelled, after_close = engine.stats().cancelled, []
    for _ in range(QUEUED):
        with connect(port, STREAM) as leaving:
            read_until(leaving, EVENT)
        tokens = engine.stats().tokens
        assert until(lambda: engine.stats().free_slots == 2) < BACK_SECONDS
        after_close.append(engine.stats().tokens - tokens)
    assert max(after_close) <= MOST_TOKENS_AFTER_CLOSE
    assert engine.stats().cancelled - cancelled > QUEUED / 2  # few were at their end


def test_whoever_leaves_the_queue_never_runs(
    abused: tuple[Engine, int], monkeypatch: pytest.MonkeyPatch
):
    engine, port = abused
    begun: list[Request] = []
    begin = Slots.begin

    def begin_and_note(slots: Slots, request: Request) -> Any:
        begun.append(request)
        return begin(slots, request)

    monkeypatch.setattr(Slots, "begin", begin_and_note)
    cancelled = engine.stats().cancelled
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(connect(port, GENERATE))
        until(lambda: engine.stats().free_slots == 0)
        with contextlib.ExitStack() as queued:
            for _ in range(QUEUED):
                queued.enter_context(connect(port, STREAM))
            until(lambda: engine.stats().queued == QUEUED)
        assert until(lambda: engine.stats().queued == 0) < BACK_SECONDS
        assert engine.stats().active == 2
    assert until(lambda: engine.stats().active == 0) < BACK_SECONDS
    assert engine.stats().cancelled - cancelled == QUEUED + 2
    assert len(begun) == 2


class Dawdlers:
    """Connections that send or read next to nothing, and when each was closed by the server."""

    def __init__(self, port: int, of_each_kind: int, every_seconds: float):
        self.open: list[socket.socket] = []
        self.seconds: list[float] = []
        self._every_seconds = every_seconds
        self._began = time.monotonic()
        for _ in range(of_each_kind):
            for begun in (b"", HEAD % b"/x", HEAD % b"/x" + b"content-length: 999\r\n\r\n", None):
                connection = socket.socket()
                if begun is None:  # hardly reads what it asks for
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", port))
                connection.sendall(LARGE if begun is None else begun)
                self.open.append(connection)

    def wait(self, most_seconds: float) -> None:
        """Until the server has closed all of them, while they go on as they do."""
        while self.open and time.monotonic() - self._began < most_seconds:
            time.sleep(self._every_seconds)
            for connection in [*self.open]:
                try:
                    connection.setblocking(False)
                    connection.send(b"x")
                    if connection.recv(1):
                        continue
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                self.open.remove(connection)
                connection.close()
                self.seconds.append(time.monotonic() - self._began)


def probe(port: int, stop: threading.Event, seconds: list[float], least: int) -> None:
    """Asks for /health again and again: how long each answer takes."""
    while not stop.wait(0.05) or len(seconds) < least:
        began = time.monotonic()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as probe:
            probe.request("GET", "/health")
            assert probe.getresponse().status == 200
        seconds.append(time.monotonic() - began)


@contextlib.contextmanager
def probed(port: int, least: int = 3) -> Iterator[list[float]]:
    """How long /health takes during the block, and until it was answered so often."""
    seconds: list[float] = []
    stop = threading.Event()
    thread = threading.Thread(target=probe, args=(port, stop, seconds, least))
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()


def test_those_who_dawdle_are_cut_while_others_are_answered(impatient: int):
    with probed(impatient) as health_seconds:
        dawdlers = Dawdlers(impatient, of_each_kind=8, every_seconds=0.05)
        dawdlers.wait(most_seconds=20)
    assert dawdlers.open == [] and len(dawdlers.seconds) == 32
    assert statistics.median(health_seconds) < 1 and len(health_seconds) > 2


@pytest.mark.slow
def test_three_hundred_slow_connections_are_closed_within_30_seconds(workdir: Path):
    with started(f"--workdir={workdir}", "--rate=0") as process:
        assert 100 * len(process.ask("/openapi.json")[1]) > 4_000_000
        before = process.numbers()
        with probed(process.port) as health_seconds:
            dawdlers = Dawdlers(process.port, of_each_kind=75, every_seconds=1.0)
            dawdlers.wait(most_seconds=40)
        assert dawdlers.open == [] and len(dawdlers.seconds) == 300
        after = process.numbers()
        p99 = statistics.quantiles(health_seconds, n=100, method="inclusive")[-1]
        print(f"closed after {max(dawdlers.seconds):.1f} s at most")
        print(f"/health p99 {p99:.3f} s")
        print(f"grown by {(after['resident_bytes'] - before['resident_bytes']) / 1e6:.1f} MB")
        assert max(dawdlers.seconds) < 30
        assert p99 < 1
        assert after["resident_bytes"] - before["resident_bytes"] < MOST_GROWN_BYTES
        assert after["open_files"] <= before["open_files"]


@pytest.mark.slow
def test_two_hundred_streams_that_close_leave_nothing_behind(workdir: Path):
    with started(f"--workdir={workdir}", "--rate=0", "--slots=4", changes=LAPPED) as process:
        before = process.numbers()
        slowest, after_close = 0.0, []
        for _ in range(QUEUED):
            with connect(process.port, STREAM) as leaving:
                read_until(leaving, EVENT)
            closed, tokens = time.monotonic(), process.numbers()["generated_tokens_total"]
            while (after := process.numbers())["free_slots"] < 4:
                assert time.monotonic() - closed < BACK_SECONDS
            slowest = max(slowest, time.monotonic() - closed)
            after_close.append(after["generated_tokens_total"] - tokens)
        most = max(after_close)
        print(f"slots back within {slowest:.3f} s, at most {most:.0f} tokens after the close")
        assert most <= MOST_TOKENS_AFTER_CLOSE
        assert after["resident_bytes"] - before["resident_bytes"] < MOST_GROWN_BYTES
        assert after["open_files"] <= before["open_files"]
