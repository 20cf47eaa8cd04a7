"""One connection with deadlines: uvicorn's protocol waits for ever for a client that is slow.

A client has `receive_seconds` from its first byte, or from connecting, to the end of a request's
headers; bytes that trickle buy no time. What an answer writes must have left for the kernel within
`write_seconds`, and a writer waits for it, so that a client that does not read holds one message
of memory and no more. The deadline for a body is that of bodies.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http
import json
import resource
from typing import Any

from absl import logging
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanogpt_jax.serve.asgi import SECURITY_HEADERS
from nanogpt_jax.serve.journal import escape

MOST_CONNECTIONS = 1000


def most_connections() -> int:
    """As many as the process can have and still open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft < 0 else min(MOST_CONNECTIONS, soft // 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a connection may take for what, and how many there may be."""

    receive_seconds: float = 10.0
    write_seconds: float = 20.0
    most_connections: int = dataclasses.field(default_factory=most_connections)


def with_patience(patience: Patience) -> type[Connection]:
    """The class of connections for uvicorn, which makes them itself."""

    class Patient(Connection):
        limits = patience

    return Patient


def farewell(status: int, tag: str, *headers: bytes) -> bytes:
    """A whole answer, for when there is no request that the application could be asked about."""
    body = json.dumps({"error": tag}).encode()
    lines = [
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode(),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: close",
        *(name + b": " + value for name, value in SECURITY_HEADERS),
        *headers,
    ]
    return b"\r\n".join([*lines, b"", body])


class Connection(H11Protocol):
    """uvicorn's protocol with deadlines."""

    limits: Patience

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begins to wait for a request, unless there are too many that do."""
        super().connection_made(transport)
        # So that every byte that the kernel does not take is waited for.
        transport.set_write_buffer_limits(high=0)
        self._expect_request()
        if len(self.connections) > self.limits.most_connections:
            transport.write(farewell(503, "too_many_connections", b"retry-after: 5"))
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Takes bytes; the deadline is over once they complete the headers of a request."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_request()
        else:
            self._receiving = _cancel(self._receiving)

    def send_400_response(self, msg: str) -> None:
        """Says that what came is no HTTP, where no answer has begun, and closes."""
        logging.info("%s sent what is no HTTP", escape(str(self.client and self.client[0])))
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(farewell(400, "bad_request"))
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the deadlines."""
        self._receiving = _cancel(self._receiving)
        self._writing = _cancel(self._writing)
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self._receiving is None:
            seconds = self.limits.receive_seconds
            self._receiving = self.loop.call_later(seconds, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
