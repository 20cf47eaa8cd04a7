"""Who behaves is served while others misbehave: by field, by bytes on the wire, and by greed."""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.connection import Patience
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service
from tests.serve.hostile_values import BODIES, JSON, cases_of, post
from tests.serve.live import connect, read_all, serving
from tests.serve.surface import GOOD, PROMPT, URL

HEAD = b"POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
# A request and, should the server read it otherwise than meant, the beginning of another.
SMUGGLED = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
WIRE = {
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 44\r\n\r\n{}" + SMUGGLED,
    "the same length twice": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "a length and chunks": HEAD + b"content-length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a list of lengths": HEAD + b"content-length: 2, 44\r\n\r\n{}" + SMUGGLED,
    "a signed length": HEAD + b"content-length: +2\r\n\r\n{}",
    "a length below zero": HEAD + b"content-length: -1\r\n\r\n",
    "64 MiB announced": HEAD + b"content-length: 67108864\r\n\r\n",
    "another encoding of the transfer": HEAD + b"transfer-encoding: gzip\r\n\r\n",
    "chunks of nothing": HEAD + CHUNKED + b"\r\n-1\r\n\r\n",
    "a space before the colon": HEAD + b"content-length : 2\r\n\r\n{}",
    "a folded header": HEAD + b"x: a\r\n b: c\r\ncontent-length: 2\r\n\r\n{}",
    "NUL in a header": HEAD + b"x: \x00\r\n\r\n",
    "a header of 1 MB": HEAD + b"x: " + b"x" * 2**20 + b"\r\n\r\n",
    "10 000 headers": HEAD + b"x: x\r\n" * 10_000 + b"\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
    "another host in the address": b"GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a space too many": b"GET  /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "an unknown method": b"BREW /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
ACCEPTED = ["*/*", "application/json", "application/octet-stream, */*;q=0", "*/*;q=0.1, text/html"]


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    return build_app(service, Caps(rate=0))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=URL) as client:
        yield client


@contextlib.contextmanager
def bystander(client: Any, least: int = 5) -> Iterator[list[float]]:
    """Asks for text as long as the block lasts, and often; the seconds that each answer took."""
    seconds: list[float] = []
    statuses: list[int] = []
    done = threading.Event()

    def ask_again_and_again() -> None:
        while len(seconds) < least or not done.is_set():
            started = time.monotonic()
            body = {"prompt": PROMPT, "max_tokens": 2, "temperature": 1.0}
            statuses.append(client.post("/api/generate", json=body).status_code)
            seconds.append(time.monotonic() - started)
            done.wait(0.05)

    thread = threading.Thread(target=ask_again_and_again)
    thread.start()
    try:
        yield seconds
    finally:
        done.set()
        thread.join()
    assert set(statuses) == {200} and len(statuses) >= least
    assert statistics.median(seconds) < 1.0  # to be measured alone; here it must not wait


def test_wrong_requests_by_the_hundred_keep_nobody_waiting(app: FastAPI, client: TestClient):
    with bystander(client):
        statuses = [
            post(client, path, {name: value}).status_code
            for path in GOOD
            for name, value in [*cases_of(app, path)][::8]
            if path != "/api/train"  # there is no training here
        ]
        statuses += [
            client.post("/v1/completions", content=body, headers=JSON).status_code
            for body in BODIES.values()
        ]
    assert len(statuses) > 100 and all(400 <= status < 500 for status in statuses)
    assert client.get("/ready").status_code == 200


@pytest.fixture(scope="module")
def port(app: FastAPI) -> Iterator[int]:
    with serving(app, Patience(receive_seconds=2.0)) as port:
        yield port


@pytest.mark.parametrize("kind", WIRE)
def test_what_could_be_read_in_two_ways_is_never_answered_with_yes(kind: str, port: int):
    told = tell(port, WIRE[kind])
    assert told == b"" or told.startswith(b"HTTP/1.1 4"), told[:200]
    assert b"HTTP/1.1 2" not in told and b"HTTP/1.1 5" not in told
    assert httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200


def tell(port: int, sent: bytes) -> bytes:
    """What is answered to somebody who says everything at once, perhaps before all is said."""
    connection = connect(port)
    with contextlib.suppress(OSError):  # a reset, or the connection is no more
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
    return read_all(connection)


def greedy(client: TestClient, accept: str) -> Any:
    """A question about everything that there is, or would be in a longer context."""
    body = {"prompt": "3" * 64, "precision": "float32"}
    return client.post("/api/inspect/attention", json=body, headers={"accept": accept})


def test_attention_over_its_cap_is_refused_sixteenfold_and_at_once(service: Service):
    caps = Caps(rate=0, max_payload_bytes=20_000)
    with TestClient(build_app(service, caps), base_url=URL) as client, bystander(client):
        assert greedy(client, "*/*").status_code == 413
        started = time.process_time()
        answers = _sixteen(client)
        assert (time.process_time() - started) / 16 < 0.1
    for answer in answers:
        # Planning is done a few at a time, and who does not get in is told to come again.
        assert answer.status_code in (413, 503), answer.text
        assert answer.status_code == 413 or "retry-after" in answer.headers
        assert len(answer.content) < 500
    assert 413 in {answer.status_code for answer in answers}


def test_attention_within_its_cap_is_given_one_at_a_time(client: TestClient):
    cap = Caps().max_payload_bytes
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with bystander(client):
        answers = _sixteen(client)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert 200 in {answer.status_code for answer in answers}
    for answer in answers:
        assert len(answer.content) <= cap
        assert answer.status_code == 200 or "retry-after" in answer.headers


def test_generations_with_attention_stay_below_the_cap_sixteenfold(service: Service):
    caps = Caps(rate=0, max_payload_bytes=20_000)
    body = {"prompt": PROMPT, "max_tokens": 60, "temperature": 1.0}
    with (
        TestClient(build_app(service, caps), base_url=URL) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        answers = [*pool.map(lambda _: client.post("/api/generate", json=body), range(16))]
    for answer in answers:
        assert answer.status_code == 200 or "retry-after" in answer.headers
        assert len(answer.content) <= 20_000
        assert answer.status_code == 503 or answer.json()["attention_omitted"]["cap"] == 20_000


def _sixteen(client: TestClient) -> list[Any]:
    with ThreadPoolExecutor(16) as pool:
        return [*pool.map(lambda accept: greedy(client, accept), ACCEPTED * 4)]


def test_who_asks_for_much_and_leaves_again_and_again_holds_nothing_up(port: int):
    body = b'{"prompt": "%s"}' % (b"3" * 64)
    head = b"POST /api/inspect/attention HTTP/1.1\r\nhost: localhost\r\n"
    head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    address = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=address) as client, bystander(client):
        for _ in range(40):
            connect(port, head, body).close()
        deadline = time.monotonic() + 10
        while client.post("/api/inspect/tokens", json={"prompt": "3"}).status_code == 503:
            assert time.monotonic() < deadline
            time.sleep(0.1)
