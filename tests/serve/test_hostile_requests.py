"""Requests that mean harm are refused by name, at once, and before the model runs.

The table is the product of every field of every form, as the application documents them, and of
the values of hostile_values.py; texts, bodies and headers follow. Who is served meanwhile, and what
is no HTTP, is in test_bystanders.py.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.asgi import Message, Receive
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service
from nanogpt_jax.serve.training import TrainingRuns
from tests.serve.hostile_values import (
    BODIES,
    HEADERS,
    JSON,
    TEXTS,
    cases_of,
    named_by,
    post,
)
from tests.serve.surface import GOOD, URL, allows, form_of, routes_of

CAP_BYTES = 256 * 1024  # of a body, without a policy


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    return build_app(service, Caps(rate=0), TrainingRuns(service, launch=_never))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=URL) as client:
        yield client


@pytest.fixture(autouse=True)
def undisturbed(service: Service, client: TestClient) -> Iterator[None]:
    """No attack makes the engine do a step, or ends it."""
    before = service.current().engine.stats()
    yield
    after = service.current().engine.stats()
    assert after.steps == before.steps
    assert (after.active, after.queued) == (0, 0)
    assert client.get("/ready").status_code == 200


def _never(*_: Any) -> Any:
    raise AssertionError("a run was started")


def test_every_form_is_attacked(app: FastAPI):
    assert {path for method, path in routes_of(app) if method == "POST"} == set(GOOD)
    assert not any(allows(app, form_of(app, path), {}) for path in GOOD)
    assert sum(1 for path in GOOD for _ in cases_of(app, path)) >= 1000


@pytest.mark.parametrize("path", GOOD)
def test_a_wrong_field_is_named_and_refused_before_the_model_runs(
    path: str, app: FastAPI, client: TestClient
):
    wrong, seconds = [], []
    for name, value in cases_of(app, path):
        started = time.process_time()
        answer = post(client, path, {name: value})
        seconds.append(time.process_time() - started)
        refused = 400 <= answer.status_code < 500
        # What is no JSON has no fields, and of names only those that could be fields are told.
        unread = "not valid JSON" in answer.text
        named = name in named_by(answer) or (name[0] == "_" and "a field" in named_by(answer))
        if not (refused and (named or unread)):
            wrong.append((name, repr(value)[:50], answer.status_code, answer.text[:200]))
    assert wrong == []
    assert sorted(seconds)[int(0.99 * len(seconds))] < 0.2


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_without_tokens_is_refused_wherever_it_stands(
    kind: str, app: FastAPI, client: TestClient
):
    text, refused = TEXTS[kind], 0
    for path, good in GOOD.items():
        for name, schema in form_of(app, path)["properties"].items():
            if name in ("user", "stop", "suffix") or not allows(app, schema, "any text"):
                continue
            answer = post(client, path, {name: text})
            assert 400 <= answer.status_code < 500, (path, name)
            assert text not in answer.text and "onerror" not in answer.text
            assert answer.headers["content-type"] == "application/json"
            refused += 1
        if "messages" in good:
            answer = post(client, path, {"messages": [{"role": "user", "content": text}]})
            assert 400 <= answer.status_code < 500, path
    assert refused >= 10


@pytest.mark.parametrize("path", ["/v1/completions", "/api/generate", "/api/inspect/tokens"])
def test_a_character_without_a_token_is_named_by_its_code_point(path: str, client: TestClient):
    answer = post(client, path, {"prompt": "3 \u2603"})
    assert (answer.status_code, "U+2603" in answer.text) == (400, True)


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_no_request_is_refused(kind: str, client: TestClient):
    for path in GOOD:
        answer = client.post(path, content=BODIES[kind], headers=JSON)
        assert answer.status_code in (400, 413, 422), (path, answer.text)
        assert "error" in answer.json()


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_do_not_fit_are_refused(kind: str, client: TestClient):
    for path, good in GOOD.items():
        headers = {**JSON, **HEADERS[kind]}
        answer = client.post(path, content=json.dumps(good), headers=headers)
        assert answer.status_code in (400, 413, 415, 431), (path, answer.text)


def test_a_compressed_body_is_not_unpacked(client: TestClient):
    bomb = gzip.compress(b" " * 2**24)
    for path in GOOD:
        answer = client.post(path, content=bomb, headers={**JSON, "content-encoding": "gzip"})
        assert answer.status_code == 415


def test_a_body_without_a_length_is_read_no_further_than_its_cap(app: FastAPI):
    sent = 0

    async def receive() -> Message:
        nonlocal sent
        sent += 2**16
        return {"type": "http.request", "body": bytes(2**16), "more_body": True}

    for path in GOOD:
        sent = 0
        assert status_of(app, path, receive) == 413
        assert sent <= CAP_BYTES + 2**16


async def _answer_to(app: FastAPI, path: str, receive: Receive) -> list[Message]:
    answers: list[Message] = []

    async def send(message: Message) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
    }
    await app(scope, receive, send)
    return answers


def status_of(app: FastAPI, path: str, receive: Receive) -> int:
    """The status of the answer to a POST whose body `receive` gives."""
    return asyncio.run(_answer_to(app, path, receive))[0]["status"]
