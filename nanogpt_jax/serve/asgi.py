"""Words of ASGI, the interface between a server and an application, and how a request is refused.

Nothing here knows a framework; routes are written with FastAPI, what stands before them is not.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]  # names in lower case

# No script and no style but from files of ours; pictures may also be made by the page itself.
CONTENT_POLICY = (
    b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    b"frame-ancestors 'none'"
)
SECURITY_HEADERS: Headers = [  # of every answer
    (b"content-security-policy", CONTENT_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


# The routes that ask for a generation.
GENERATING = {"/v1/completions", "/v1/chat/completions", "/api/generate", "/api/continue"}


class Refusal(Exception):
    """An answer that is given instead of asking the application.

    `tag` names the reason for programs, `message` says it to people; neither quotes the request.
    `fields` stand beside the tag, where the form of the answer has room for them. Two of them mean
    something: `field` is the one at fault, `retry_after_seconds` becomes a header as well.
    """

    def __init__(
        self,
        status: int,
        tag: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        **fields: object,
    ):
        super().__init__(message)
        self.status, self.tag, self.message = status, tag, message
        self.headers = headers or {}
        self.fields = fields
        if "retry_after_seconds" in fields:
            self.headers = {**self.headers, "retry-after": str(fields["retry_after_seconds"])}

    def content(self, path: str) -> dict[str, object]:
        """The answer's JSON: OpenAI's form below /v1, else an `error` that is the tag."""
        if not path.startswith("/v1/"):
            return {"error": self.tag, "message": self.message, **self.fields}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        param = self.fields.get("field")
        return {"error": {"message": self.message, "type": kind, "param": param, "code": self.tag}}


def full_queue(seconds: int) -> Refusal:
    """As many generations wait as may."""
    sentence = f"the queue is full; try again in {seconds} s"
    return Refusal(503, "queue_full", sentence, retry_after_seconds=seconds)


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """The values of every header called `name`."""
    return [value for each, value in headers if each == name]


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Sends a whole answer."""
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Sends what `refusal` says, in the form of the part of the API that was asked."""
    body = json.dumps(refusal.content(scope["path"])).encode()
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    await answer(send, refusal.status, body, [(b"content-type", b"application/json"), *headers])
