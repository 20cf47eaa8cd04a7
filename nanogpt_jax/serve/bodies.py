"""The body of a request: received whole, in time and within bounds, and JSON that means one thing.

What is refused here would otherwise be a fault later: text that no encoding can write, numbers that
are none, brackets nested deeper than Python recurses. Which fields a body has is the business of
the route that reads it.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import NoReturn

from nanogpt_jax.serve.asgi import Headers, Message, Receive, Refusal, values_of

DEEPEST = 32  # levels of nesting; no request has more than six


class Departed(Exception):
    """The client left before its request was complete."""


def check_headers(headers: Headers, cap_bytes: int) -> None:
    """Refuses, before a byte of the body is read, what its headers show to be too much or unclear.

    Two lengths, or a length and chunks, are how one request is made to look like two.
    """
    lengths = values_of(headers, b"content-length")
    if len(lengths) + len(values_of(headers, b"transfer-encoding")) > 1:
        # Where the body ends is not known, so what follows it must not be read as a request.
        sentence = "the length of the body is given more than once"
        raise Refusal(400, "bad_request", sentence, headers={"connection": "close"})
    if any(not length.isdigit() for length in lengths):
        raise Refusal(400, "bad_request", "content-length is not a number")
    # 20 digits are more than any cap, and more than 4300 are more than int() takes.
    if any(len(length) > 20 or int(length) > cap_bytes for length in lengths):
        raise too_large(cap_bytes)
    encodings = values_of(headers, b"content-encoding")
    if any(encoding.strip().lower() != b"identity" for encoding in encodings):
        raise Refusal(415, "unsupported_media_type", "send the body without content-encoding")


def too_large(cap_bytes: int) -> Refusal:
    """The refusal of a body of more than `cap_bytes`."""
    return Refusal(413, "body_too_large", f"the body may have at most {cap_bytes} bytes")


async def read(receive: Receive, cap_bytes: int, receive_seconds: float) -> bytes:
    """The whole body.

    Raises Refusal when it is larger than the cap or not here in time, and Departed.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(receive_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Departed
                body += message.get("body", b"")
                if len(body) > cap_bytes:
                    raise too_large(cap_bytes)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        sentence = f"the body was not received within {receive_seconds:g} seconds"
        raise Refusal(408, "request_timeout", sentence, headers={"connection": "close"}) from error


def check_json(body: bytes, headers: Headers) -> None:
    """Refuses a body that is not JSON by name and by content.

    A page of another site can post forms and plain text without asking, but not JSON.
    """
    types = values_of(headers, b"content-type")
    if [each.partition(b";")[0].strip().lower() for each in types] != [b"application/json"]:
        raise Refusal(415, "unsupported_media_type", "content-type must be application/json")
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # fails on half a surrogate pair
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_request", "the body is not valid JSON in UTF-8") from error
    if _depth(value) > DEEPEST:
        raise Refusal(400, "bad_request", f"the body is nested deeper than {DEEPEST} levels")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _depth(value: object) -> int:
    """Levels of lists and objects, counted without recursion and only as far as needed."""
    depth, level = 0, [value]
    while (level := [each for each in level if isinstance(each, dict | list)]) and depth <= DEEPEST:
        depth += 1
        level = [
            child for each in level for child in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` again, then whatever comes after it."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return unread.pop() if unread else await receive()

    return receive_again
