"""A client of an ASGI application that can send what no library for HTTP would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from nanogpt_jax.serve.asgi import Application, Message

HOST = ("host", "127.0.0.1:8787")
JSON = ("content-type", "application/json")


class Answer(NamedTuple):
    """What an application sent."""

    status: int | None
    headers: dict[str, str]
    bodies: list[bytes]
    state: dict[str, Any]

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    app: Application,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (HOST,),
    pieces: Sequence[bytes | None] = (b"",),
    peer: str = "127.0.0.1",
) -> Answer:
    """The answer to one request; a piece of None is a client that sends no more but stays."""
    return asyncio.run(_ask(app, path, method, headers, list(pieces), peer))


def post(app: Application, path: str, body: bytes, *headers: tuple[str, str]) -> Answer:
    """The answer to JSON, of whatever quality."""
    return ask(app, path, method="POST", headers=[HOST, JSON, *headers], pieces=[body])


async def _ask(
    app: Application,
    path: str,
    method: str,
    headers: Sequence[tuple[str, str]],
    pieces: list[bytes | None],
    peer: str,
) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        if piece is None:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": (peer, 50000),
        "server": ("127.0.0.1", 8787),
        "state": {},
    }
    await app(scope, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) <= 1
    return Answer(
        starts[0]["status"] if starts else None,
        {name.decode(): value.decode() for name, value in starts[0]["headers"]} if starts else {},
        [message["body"] for message in sent if message["type"] == "http.response.body"],
        scope["state"],
    )
