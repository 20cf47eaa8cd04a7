"""One connection with deadlines: uvicorn's protocol waits for ever for a client that is slow.

A client has `receive_seconds` from its first byte, or from connecting, to the end of a request's
headers; bytes that trickle buy no time. What an answer writes must have left for the kernel within
`write_seconds`, and a writer waits for it, so that a client that does not read holds one message
of memory and `KERNEL_BYTES` of the kernel's, and costs no more answers than these. The deadline
for a body is that of bodies.py.

While there is no room for one more generation, a request for one that comes whole is refused here:
to parse it would cost as much as to serve a token.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http
import json
import re
import resource
import socket
from collections.abc import Callable
from typing import Any, ClassVar

from absl import logging
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanogpt_jax.serve.asgi import GENERATING, SECURITY_HEADERS, Refusal, full_queue
from nanogpt_jax.serve.journal import escape
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.turns import share_of_one

MOST_CONNECTIONS = 1000
CROWD_SECONDS = 5
# Left to itself the kernel takes megabytes for who does not read, all of it made here first.
KERNEL_BYTES = 256 * 1024

_POST = re.compile(rb"POST (/[!-~]*) HTTP/1\.[01]\r\n")
_LENGTH = re.compile(rb"\r\n(?i:content-length):[ \t]*(\d{1,9})[ \t]*(?=\r\n|$)")


def most_connections() -> int:
    """As many as the process can have and still open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft < 0 else min(MOST_CONNECTIONS, soft // 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a connection may take for what, and how many there may be.

    `most_generations` are those that the engine takes in, `most_of_one` those from one address;
    `busy_seconds` says when one more is likely to have room, and `observe` is told of those that
    are refused for want of it.
    """

    receive_seconds: float = 10.0
    write_seconds: float = 20.0
    most_connections: int = dataclasses.field(default_factory=most_connections)
    most_generations: int = 1 << 30
    most_of_one: int = 1 << 30
    busy_seconds: Callable[[], int] = lambda: 1
    observe: Callable[[str, str, int], None] | None = None  # method, route, status


def patience_of(
    caps: Caps,
    *,
    busy_seconds: Callable[[], int],
    observe: Callable[[str, str, int], None],
    one_address: bool = False,
) -> Patience:
    """The limits of a server with `caps`; `one_address`: all clients come through proxies."""
    waiting = caps.queue_length
    return Patience(
        receive_seconds=caps.receive_seconds,
        write_seconds=caps.write_seconds,
        most_generations=caps.slots + waiting,
        most_of_one=caps.slots + (waiting if one_address else share_of_one(waiting)),
        busy_seconds=busy_seconds,
        observe=observe,
    )


def with_patience(patience: Patience) -> type[Connection]:
    """The class of connections for uvicorn, which makes them itself."""

    class Patient(Connection):
        limits = patience
        generating: ClassVar[set[Connection]] = set()

    return Patient


def farewell(refusal: Refusal, path: str = "") -> bytes:
    """A whole answer, for when the application is not asked."""
    body = json.dumps(refusal.content(path)).encode()
    lines = [
        f"HTTP/1.1 {refusal.status} {http.HTTPStatus(refusal.status).phrase}".encode(),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: close",
        *(name + b": " + value for name, value in SECURITY_HEADERS),
        *(f"{name}: {value}".encode() for name, value in refusal.headers.items()),
    ]
    return b"\r\n".join([*lines, b"", body])


def whole_path(data: bytes) -> str | None:
    """The path of a POST that `data` holds from its first to its last byte, else None."""
    head, ended, body = data.partition(b"\r\n\r\n")
    matched = _POST.match(head)
    length = _LENGTH.findall(head)
    whole = matched and ended and len(length) == 1 and int(length[0]) == len(body)
    return matched[1].decode() if matched and whole else None


class Connection(H11Protocol):
    """uvicorn's protocol with deadlines."""

    limits: Patience
    # Those whose requests for a generation are not answered yet. Counted when they come, because a
    # crowd that comes at once would all find the engine's queue empty.
    generating: ClassVar[set[Connection]]

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._new = True

    @property
    def address(self) -> str:
        """Where the client is, without its port."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begins to wait for a request."""
        super().connection_made(transport)
        # So that every byte that the kernel does not take is waited for.
        transport.set_write_buffer_limits(high=0)
        kernel = transport.get_extra_info("socket")
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        self._expect_request()
        if len(self.connections) > 2 * self.limits.most_connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Takes bytes; the deadline is over once they complete the headers of a request."""
        if self._new and (refused := self._refuse(data)):
            # Now that something was read: of what closes unread a client hears nothing.
            self.transport.write(refused)
            self.transport.close()
            return
        self._new = False
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_request()
        else:
            self._receiving = _cancel(self._receiving)

    def send_400_response(self, msg: str) -> None:
        """Says that what came is no HTTP, where no answer has begun, and closes."""
        logging.info("%s sent what is no HTTP", escape(self.address))
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(farewell(Refusal(400, "bad_request", "this is no HTTP/1.1")))
        self.transport.close()

    def pause_writing(self) -> None:
        """Waits for the client to take what was written."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken all of it."""
        self._writing = _cancel(self._writing)
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Makes room for another generation."""
        self.generating.discard(self)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the deadlines."""
        self.generating.discard(self)
        self._receiving = _cancel(self._receiving)
        self._writing = _cancel(self._writing)
        super().connection_lost(exc)

    def _refuse(self, data: bytes) -> bytes | None:
        """What is said to the first bytes of a client for whom there is no room."""
        if len(self.connections) > self.limits.most_connections:
            sentence = "this server has too many connections; come back in a few seconds"
            return farewell(
                Refusal(503, "too_many_connections", sentence, retry_after_seconds=CROWD_SECONDS)
            )
        path = whole_path(data)
        if path not in GENERATING:
            return None
        own = sum(each.address == self.address for each in self.generating)
        if len(self.generating) < self.limits.most_generations and own < self.limits.most_of_one:
            self.generating.add(self)
            return None
        if self.limits.observe:
            self.limits.observe("POST", path, 503)
        return farewell(full_queue(self.limits.busy_seconds()), path)

    def _expect_request(self) -> None:
        if self._receiving is None:
            seconds = self.limits.receive_seconds
            self._receiving = self.loop.call_later(seconds, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
