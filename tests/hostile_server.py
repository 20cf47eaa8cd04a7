"""A local HTTP server that can misbehave: files and answers at paths, and a fault for a request.

It speaks what the tests of data/ need: ranges with strong ETags, redirects, JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from nanogpt_jax.data.network import connection, http
from nanogpt_jax.data.network.connection import Body

DRIP_SECONDS = 0.02
# How long a client waits for an answer that is to be slow, and for any other.
SLOW_SECONDS = 0.2
GOOD_SECONDS = 10.0


class Request(NamedTuple):
    """What came: the path without the query, the query, the headers in lower case."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


# A fault answers in place of the server; `content` is what the server would have sent.
Fault = Callable[["Handler", bytes], None]


class HostileServer:
    """Serves `files` (bytes) and `answers` (a function from query to JSON) by path.

    `faults[path]` gives the fault of each request until it is used up; `requests` is the record.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Callable[[dict[str, str]], Any]] = {}
        self.faults: dict[str, Iterator[Fault]] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.taking = threading.Lock()
        self.url = ""

    def asked(self, path: str) -> list[Request]:
        """The requests for a path, in order."""
        return [request for request in self.requests if request.path == path]

    def take(self, request: Request) -> Fault | None:
        """Notes a request, and gives the fault that it meets; `taking` is to be held."""
        self.requests.append(request)
        return next(self.faults.get(request.path, iter(())), None)

    def coming(self, path: str) -> Fault | None:
        """The fault that the next request for a path meets."""
        with self.taking:
            faults = self.faults.get(path, iter(()))
            fault = next(faults, None)
            if fault is not None:
                self.faults[path] = itertools.chain([fault], faults)
            return fault

    @contextlib.contextmanager
    def serving(self) -> Iterator[HostileServer]:
        """Serves on a free port of this machine until the block ends."""
        handler = type("BoundHandler", (Handler,), {"hostile": self})
        with _Server(("127.0.0.1", 0), handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield self
            finally:
                self.closing.set()
                server.shutdown()
                thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them, so that no test leaves a thread behind

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a client that hangs up is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    """One request; faults use its methods."""

    hostile: HostileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(address.path, dict(parse_qsl(address.query)), headers)
        with self.hostile.taking:
            if self._is_left():  # a fault is for the attempt that its client knew it by
                self.close_connection = True
                return
            fault = self.hostile.take(request)
        content = self.hostile.files.get(request.path)
        if request.path in self.hostile.answers:
            content = json.dumps(self.hostile.answers[request.path](request.query)).encode()
        if fault is not None:
            fault(self, content or b"")
        elif content is None:
            self.say(404, b"no such thing\nhere")
        else:
            self.serve(content, request)

    def _is_left(self) -> bool:
        """Whether the client has hung up before its request was read."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def serve(self, content: bytes, request: Request) -> None:
        """The content, or the range of it that is asked for."""
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if asked is None or request.headers.get("if-range", tag) != tag:
            self.say(200, content, ETag=tag)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        if first >= len(content):
            self.say(416, b"", **{"Content-Range": f"bytes */{len(content)}"})
            return
        place = {"Content-Range": f"bytes {first}-{last}/{len(content)}", "ETag": tag}
        self.say(206, content[first : last + 1], **place)

    def say(self, status: int, body: bytes, **headers: str) -> None:
        """A whole answer."""
        self.begin(status, {"Content-Length": str(len(body))} | headers)
        self.wfile.write(body)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Status and headers; the connection ends with the answer."""
        self.close_connection = True
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """An answer of that status; header names have _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, content: handler.say(code, body, **named)


def redirect(location: str) -> Fault:
    """An answer that leads elsewhere."""
    return status(302, Location=location)


def _begin_whole(handler: Handler, content: bytes) -> None:
    tag = f'"{hashlib.sha256(content).hexdigest()}"'
    handler.begin(200, {"Content-Length": str(len(content)), "ETag": tag})


def short(handler: Handler, content: bytes) -> None:
    """Half of the body that was announced, and an orderly end."""
    _begin_whole(handler, content)
    handler.wfile.write(content[: len(content) // 2])


def reset(handler: Handler, content: bytes) -> None:
    """Half of the body, then a reset."""
    short(handler, content)
    handler.wfile.flush()
    handler.hostile.closing.wait(DRIP_SECONDS)  # what was sent would be lost with the reset
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def drip(handler: Handler, content: bytes) -> None:
    """A byte at a time, as long as the client listens."""
    _begin_whole(handler, content)
    for byte in content:
        _drop(handler, bytes([byte]))


def drip_headers(handler: Handler, content: bytes) -> None:
    """Headers without an end, a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not handler.hostile.closing.is_set():
        _drop(handler, b"x")


def _drop(handler: Handler, content: bytes) -> None:
    handler.wfile.write(content)
    handler.wfile.flush()
    if handler.hostile.closing.wait(DRIP_SECONDS):
        raise ConnectionError("the test is over")


def endless(handler: Handler, content: bytes) -> None:
    """The body again and again, in chunks without a last one."""
    handler.begin(200, {"Transfer-Encoding": "chunked"})
    piece = content or b"x" * 1000
    while not handler.hostile.closing.is_set():
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")


def silent(handler: Handler, content: bytes) -> None:
    """No answer at all."""
    handler.hostile.closing.wait()


def ignore_range(handler: Handler, content: bytes) -> None:
    """The whole content, whatever was asked for."""
    handler.say(200, content)


def stingy(handler: Handler, content: bytes) -> None:
    """Half of the range that was asked for, called what it is."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", "bytes=0-"))
    assert asked is not None
    first, end = int(asked[1]), int(asked[2] or len(content) - 1) + 1
    end -= (end - first) // 2
    place = {"Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}
    handler.say(206, content[first:end], **place)


def unbounded(handler: Handler, content: bytes) -> None:
    """Half of the content, without a word about where it ends."""
    handler.begin(200, {})
    handler.wfile.write(content[: len(content) // 2])


def make_impatient(monkeypatch: pytest.MonkeyPatch, server: HostileServer) -> None:
    """Lets the client wait shortly for a slow fault of `server`, and long for everything else.

    A good answer may be late: this process has both ends, and may stand still.
    """
    get, make_client = connection.get, connection._client

    def get_impatiently(
        url: str, headers: Mapping[str, str], byte_range: tuple[int, int | None] | None = None
    ) -> contextlib.AbstractContextManager[Body]:
        fault = server.coming(urlsplit(url).path)
        slow = fault in (drip, drip_headers, silent)
        monkeypatch.setattr(connection, "WINDOW_SECONDS", SLOW_SECONDS if slow else GOOD_SECONDS)
        # A drip is for the watch on the pace to end. A read of it is late only when we stood still.
        read_seconds = SLOW_SECONDS if fault is silent else GOOD_SECONDS

        def client(address: httpx2.URL) -> httpx2.Client:
            made = make_client(address)
            made.timeout = read_seconds
            return made

        monkeypatch.setattr(connection, "_client", client)
        return get(url, headers, byte_range)

    monkeypatch.setattr(http, "get", get_impatiently)
