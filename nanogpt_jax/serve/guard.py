"""What stands between the network and the routes.

    app.add_middleware(Guard, policy=policy)

One ASGI middleware, the outermost. In this order it names the client (`request.state.client`),
refuses foreign hosts (DNS rebinding) and requests without a key, receives the body whole, asks the
routes, answers for them when they fail, puts the security headers on every answer, and writes one
line to the log, unless it was a probe that succeeded. What it asks for is in policy.py and
bodies.py; slow connections are cut by connection.py. Nothing of a body, a query or an error's
message reaches the log.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from absl import logging

from nanogpt_jax.serve import bodies
from nanogpt_jax.serve.asgi import (
    SECURITY_HEADERS,
    Application,
    Headers,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    answer,
    refuse,
    values_of,
)
from nanogpt_jax.serve.journal import escape
from nanogpt_jax.serve.markup import STYLE_PATH
from nanogpt_jax.serve.policy import Policy, check_size, name_client

# The whole list of what is answered without a key: a browser that opens a page sends none.
OPEN_PATHS = ("/health", "/ready", "/", STYLE_PATH)
ASSETS = "/assets/"  # and what lies here
PROBES = ("/health", "/ready", "/metrics")  # asked so often that only a refusal is worth a line
NEVER_STORED = ("/api/", "/v1/", *PROBES)
PIECE_BYTES = 64 * 1024  # of an answer: what must be taken before a write's deadline
SHOWN_CHARACTERS = 200  # of a path in the log

PREFLIGHT_HEADERS: Headers = [
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type"),
    (b"access-control-max-age", b"600"),
]

Observe = Callable[[str, str, int], None]  # method, route, status
Admit = Callable[[str, str], None]  # path, client


class Guard:
    """The middleware; `observe` is told of every request that was answered.

    `admit` may refuse a request before anybody reads what it says.
    """

    def __init__(
        self,
        app: Application,
        policy: Policy | None = None,
        observe: Observe | None = None,
        admit: Admit | None = None,
    ):
        self._app = app
        self._policy = policy or Policy()
        self._observe = observe
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":  # and nothing else is answered
            await self._handle(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        peer = (scope.get("client") or (None,))[0]
        client = name_client(peer, scope["headers"], self._policy.trusted_proxies)
        scope.setdefault("state", {})["client"] = client
        sender = _Sender(send, self._headers_of(scope))
        try:
            await self._answer(scope, receive, sender)
        except Refusal as refusal:
            await refuse(scope, sender, refusal)
        except bodies.Departed:
            pass
        except Exception:  # of any kind: what a client gets is a number, not a traceback
            number = secrets.token_hex(8)
            logging.exception("error %s", number)
            # An answer that has begun stays incomplete, by which its client knows.
            if sender.status is None:
                sentence = f"internal error {number}: the server's log says more"
                await refuse(scope, sender, Refusal(500, "internal", sentence, id=number))
        finally:
            self._record(scope, client, sender, time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = scope["headers"], scope["path"]
        check_size(headers)
        self._policy.check_host(scope)
        if self._is_preflight(scope):
            await answer(send, 204, b"", [])
            return
        if not is_open(path):
            self._policy.check_key(headers)
        cap_bytes = self._policy.body_bytes_of.get(path, self._policy.max_body_bytes)
        bodies.check_headers(headers, cap_bytes)
        body = await bodies.read(receive, cap_bytes, self._policy.receive_seconds)
        if self._admit:  # after the body: what closes with it unread, its client never hears
            self._admit(path, scope["state"]["client"])
        if body:
            bodies.check_json(body, headers)
        await self._app(scope, bodies.replay(body, receive), send)

    def _is_preflight(self, scope: Scope) -> bool:
        """Whether a browser asks what a page of a known origin may send; it never has a key."""
        headers = scope["headers"]
        asked = scope["method"] == "OPTIONS" and self._policy.origin_of(headers) is not None
        return asked and bool(values_of(headers, b"access-control-request-method"))

    def _headers_of(self, scope: Scope) -> Headers:
        """The headers that every answer to this request has."""
        path = scope["path"]
        headers = [*SECURITY_HEADERS]
        if path.startswith(NEVER_STORED):
            headers.append((b"cache-control", b"no-store"))
        if self._policy.cors_origins:
            headers.append((b"vary", b"origin"))
        if origin := self._policy.origin_of(scope["headers"]):
            headers.append((b"access-control-allow-origin", origin))
            headers.append((b"access-control-expose-headers", b"retry-after"))
        return headers + PREFLIGHT_HEADERS if self._is_preflight(scope) else headers

    def _record(self, scope: Scope, client: str, sender: _Sender, seconds: float) -> None:
        if not (scope["path"] in PROBES and sender.status == 200):
            path = escape(scope["path"][:SHOWN_CHARACTERS])
            status = sender.status or "left"
            logging.info(
                "%s %s %s %s %d bytes %.3f s",
                *(client, scope["method"], path, status, sender.sent_bytes, seconds),
            )
        if self._observe and sender.status:
            route = getattr(scope.get("route"), "path", "other")
            self._observe(scope["method"], route, sender.status)


def is_open(path: str) -> bool:
    """Whether a path is answered without a key."""
    return path in OPEN_PATHS or path.startswith(ASSETS)


class _Sender:
    """A `send` that adds headers, cuts large bodies into pieces, and remembers what was sent."""

    def __init__(self, send: Send, headers: Headers):
        self._send = send
        self._headers = headers
        self.status: int | None = None
        self.sent_bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = list(message.get("headers", []))
            names = {name.lower() for name, _ in own}
            added = [each for each in self._headers if each[0] not in names]
            await self._send({**message, "headers": own + added})
            return
        body, more_follows = message.get("body", b""), message.get("more_body", False)
        self.sent_bytes += len(body)
        for start in range(0, max(len(body), 1), PIECE_BYTES):
            end = start + PIECE_BYTES
            more = more_follows or end < len(body)
            await self._send({**message, "body": body[start:end], "more_body": more})
