"""Bodies are whole, bounded, in time, and mean one thing."""

from __future__ import annotations

import time

import pytest

from nanogpt_jax.serve.asgi import Receive, Scope, Send, answer
from nanogpt_jax.serve.guard import Guard
from nanogpt_jax.serve.policy import Policy
from tests.serve.asking import HOST, JSON, ask, post


async def unreachable(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("a request that should have been refused came through")


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 200, b"", [])


STRICT = Guard(unreachable, Policy(max_body_bytes=1_000_000, receive_seconds=0.05))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'a': 1}",
        b'{"temperature": NaN}',
        b'{"temperature": -Infinity}',
        b'{"temperature": 1e999}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"prompt": "\xff"}',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 60 + b"]" * 60,
        '{"prompt": "a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b" ",
    ],
    ids=lambda body: f"{len(body)}-{body[:16]!r}",
)
def test_what_is_no_json_is_refused_at_once(body: bytes):
    started = time.thread_time()  # there is nothing to wait for
    refused = post(STRICT, "/api/generate", body)
    assert refused.status == 400
    assert refused.json()["error"] == "bad_request"
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "\\ud83d\\ude00 \\u0000 \xc2\x85"}',
        b"[" * 30 + b"]" * 30,
        b"null",
        b'"\\\\ud800"',
    ],
)
def test_json_that_a_route_can_judge_is_let_through(body: bytes):
    assert post(Guard(accept), "/api/generate", body).status == 200


@pytest.mark.parametrize(
    "types", [[], ["text/plain"], ["application/x-www-form-urlencoded"], ["application/json"] * 2]
)
def test_only_json_by_name_is_read(types: list[str]):
    headers = [HOST, *(("content-type", each) for each in types)]
    assert ask(STRICT, method="POST", headers=headers, pieces=[b"{}"]).status == 415


def test_a_charset_may_be_named():
    headers = [HOST, ("content-type", "Application/JSON; charset=utf-8")]
    assert ask(Guard(accept), method="POST", headers=headers, pieces=[b"{}"]).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_compressed_bodies_are_refused(encoding: str):
    assert post(STRICT, "/", b"{}", ("content-encoding", encoding)).status == 415


@pytest.mark.parametrize("length", ["1000001", "9" * 5000])
def test_an_announced_body_that_is_too_large_is_refused_before_it_comes(length: str):
    headers = [HOST, JSON, ("content-length", length)]
    assert ask(STRICT, method="POST", headers=headers, pieces=[None]).status == 413


def test_a_chunked_body_is_counted():
    headers = [HOST, JSON, ("transfer-encoding", "chunked")]
    pieces = [b" " * 400_000] * 3
    refused = ask(STRICT, "/v1/completions", method="POST", headers=headers, pieces=[*pieces, None])
    assert refused.status == 413
    assert refused.json()["error"]["code"] == "body_too_large"


def test_a_path_may_have_a_cap_of_its_own():
    guard = Guard(accept, Policy(max_body_bytes=9, body_bytes_of={"/api/generate": 4}))
    assert post(guard, "/api/generate", b"[1, 2]").status == 413
    assert post(guard, "/api/train", b"[1, 2]").status == 200


@pytest.mark.parametrize(
    "lengths",
    [
        [("content-length", "2"), ("content-length", "2")],
        [("content-length", "2"), ("content-length", "3")],
        [("content-length", "2"), ("transfer-encoding", "chunked")],
        [("content-length", "-2")],
        [("content-length", "0x2")],
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_refused(lengths: list[tuple[str, str]]):
    assert post(STRICT, "/", b"{}", *lengths).status == 400


def test_a_body_that_does_not_come_in_time_is_given_up():
    seconds: list[float] = []
    # Given up too late, it is so every time; a busy machine is not late every time.
    while len(seconds) < 3 and min(seconds, default=1) >= 1:
        started = time.monotonic()
        refused = ask(STRICT, method="POST", headers=[HOST, JSON], pieces=[b"{", None])
        seconds.append(time.monotonic() - started)
        assert (refused.status, refused.headers["connection"]) == (408, "close")
        assert refused.json()["error"] == "request_timeout"
    assert min(seconds) < 1


def test_a_request_without_a_body_is_the_routes_business():
    assert ask(Guard(accept), method="POST").status == 200
