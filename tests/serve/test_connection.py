"""Slow clients are cut, others are not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from nanogpt_jax.serve.asgi import SECURITY_HEADERS, Receive, Scope, Send
from nanogpt_jax.serve.connection import KERNEL_BYTES, Patience, most_connections
from tests.serve.live import application, connect, read_all, serving

PATIENCE = Patience(receive_seconds=0.4, write_seconds=0.4, most_connections=20)
# For tests that are not about deadlines, so that none cuts a client that a busy machine holds up.
LENIENT = dataclasses.replace(PATIENCE, receive_seconds=30, write_seconds=30)
WAIT_SECONDS = 60.0
REQUEST = b"GET /x HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(patience=PATIENCE) as port:
        yield port


@pytest.fixture
def lenient() -> Iterator[int]:
    """A server of its own, whose deadlines are far."""
    with serving(patience=LENIENT) as port:
        yield port


def seconds_until_closed(port: int, begun: bytes, *, trickle: bytes) -> float:
    """How long the server keeps a connection over which a byte comes now and then."""
    started = time.monotonic()  # before the server begins to count
    with connect(port) as connection:
        connection.settimeout(0.05)
        for piece in (begun, *(bytes([byte]) for byte in trickle)):
            try:
                connection.sendall(piece)
                if not connection.recv(100):
                    break
            except TimeoutError:
                pass
            except ConnectionError:
                break
    return time.monotonic() - started


def connect_soon(port: int, words: bytes) -> socket.socket:
    """A connection over which all was said before the deadline: another, where this was held up."""
    while True:
        began = time.monotonic()
        connection = connect(port)
        with contextlib.suppress(ConnectionError):  # cut, rightly or not
            connection.sendall(words)
        if time.monotonic() - began < PATIENCE.receive_seconds:
            return connection
        connection.close()


class Noted:
    """The application, and when a request has entered it and left it."""

    def __init__(self):
        self.entered, self.left = threading.Event(), threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.entered.set()
        await application(scope, receive, send)
        if scope["type"] == "http":
            self.left.set()


@pytest.mark.parametrize(
    "begun",
    [b"", REQUEST, REQUEST + b"\r\n" + REQUEST],
    ids=["nothing", "half", "the second request"],
)
def test_headers_that_trickle_are_cut_whatever_comes(port: int, begun: bytes):
    seconds: list[float] = []
    # Not cut, it takes 8 seconds every time; a busy machine does not come in between every time.
    while len(seconds) < 3 and min(seconds, default=8) >= 1.5:
        seconds.append(seconds_until_closed(port, begun, trickle=b"x-header: value " * 10))
    assert 0.3 < min(seconds) < 1.5


def test_a_request_in_two_pieces_and_another_after_it_are_answered(lenient: int):
    with connect(lenient, REQUEST) as connection:
        time.sleep(0.1)
        connection.sendall(b"\r\n" + REQUEST + b"connection: close\r\n\r\n")
        answered = read_all(connection)
    assert answered.count(b"HTTP/1.1 200 OK") == 2


def test_a_stream_that_is_read_may_take_longer_than_any_deadline(port: int):
    asked = b"GET /stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    started = time.monotonic()
    with connect_soon(port, asked) as connection:
        answered = read_all(connection)
    assert time.monotonic() - started > PATIENCE.write_seconds
    assert answered.endswith(b"end\r\n0\r\n\r\n")


def test_a_client_that_does_not_read_is_cut():
    noted, connection = Noted(), socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    patience = dataclasses.replace(LENIENT, write_seconds=PATIENCE.write_seconds)
    with serving(noted, patience) as port, connection:
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        assert noted.left.wait(WAIT_SECONDS)  # it writes no more
        connection.settimeout(10)
        held = len(read_all(connection))
    # Linux gives twice what is asked, and the client's kernel takes some; by itself, megabytes.
    assert KERNEL_BYTES / 8 < held < 3 * KERNEL_BYTES


def test_a_client_that_reads_gets_everything(lenient: int):
    with connect(
        lenient, b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    ) as connection:
        assert len(read_all(connection)) > 32 << 20


def test_one_connection_too_many_is_told_so_and_the_others_stay(lenient: int):
    held = [connect(lenient) for _ in range(LENIENT.most_connections)]
    with connect(lenient, REQUEST + b"\r\n") as surplus:
        refused = read_all(surplus)
    assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after" in refused
    held[0].sendall(REQUEST + b"connection: close\r\n\r\n")
    assert read_all(held[0]).startswith(b"HTTP/1.1 200 ")
    for each in held:
        each.close()


def test_a_full_queue_refuses_whole_requests_for_text_before_they_are_parsed_and_nothing_else():
    seen: list[tuple[str, str, int]] = []
    patience = Patience(
        most_generations=0, busy_seconds=lambda: 7, observe=lambda *each: seen.append(each)
    )
    post = b"POST %s HTTP/1.1\r\nhost: localhost\r\nContent-Length: 2\r\n\r\n"
    close = b"connection: close\r\n"
    closing = post.replace(b"\r\n", b"\r\n" + close, 1)
    noted = Noted()
    with serving(noted, patience) as port:
        for path in (b"/v1/completions", b"/api/generate"):
            refused = read_all(connect(port, post % path + b"{}"))
            assert refused.startswith(b"HTTP/1.1 503 ") and b"\r\nretry-after: 7\r\n" in refused
            error = json.loads(refused.partition(b"\r\n\r\n")[2])["error"]
            assert error == "queue_full" or error["code"] == "queue_full"
        assert seen == [("POST", "/v1/completions", 503), ("POST", "/api/generate", 503)]
        probe = read_all(connect(port, REQUEST + close + b"\r\n"))
        other = read_all(connect(port, closing % b"/x" + b"{}"))
        # Half a request is read by the application, which refuses it when it has all of it.
        noted.entered.clear()
        with connect(port, closing % b"/v1/completions") as half:
            assert noted.entered.wait(WAIT_SECONDS)
            half.sendall(b"{}")
            late = read_all(half)
    assert all(each.startswith(b"HTTP/1.1 200 ") for each in (probe, other, late))
    assert len(seen) == 2


def test_what_is_no_http_is_told_so_with_the_headers_of_every_answer(lenient: int):
    for sent in (b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", REQUEST + b"x\r\n\r\n"):
        told = read_all(connect(lenient, sent))
        head, _, body = told.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert all(name + b": " + value in head for name, value in SECURITY_HEADERS)
        assert json.loads(body)["error"] == "bad_request"


def test_a_body_in_broken_chunks_is_no_http(lenient: int):
    chunked = REQUEST + b"transfer-encoding: chunked\r\n\r\nzz\r\n"
    assert read_all(connect(lenient, chunked)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("files", "connections"), [(256, 128), (1 << 20, 1000), (-1, 1000)])
def test_half_of_the_files_a_process_may_open_are_left_for_others(
    files: int, connections: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))
    assert Patience().most_connections == most_connections() == connections
