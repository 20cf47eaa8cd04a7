"""The application as a whole: its forms of refusal, its methods, and what it tells about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from nanogpt_jax.serve.app import HANDLERS, build_app
from nanogpt_jax.serve.completions import GenerationFailed
from nanogpt_jax.serve.engine import NotServing, QueueFull
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(build_app(service, Caps(rate=0)), base_url="http://127.0.0.1") as client:
        yield client


def test_every_documented_path_says_which_methods_it_has(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    assert len(paths) > 10
    for path, operations in paths.items():
        methods = {method.upper() for method in operations}
        for name in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            if name in methods:
                continue
            answer = client.request(name, path.replace("{run_id}", "x").replace("{model}", "run"))
            assert answer.status_code == 405, (name, path)
            assert set(answer.headers["allow"].split(", ")) == methods


def test_no_answer_of_the_frameworks_own_form_is_documented(client: TestClient):
    assert "HTTPValidationError" not in client.get("/openapi.json").text


def test_a_slash_too_many_is_another_path(client: TestClient):
    answer = client.get("/v1/models/", follow_redirects=False)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_unknown_paths_are_answered_in_the_form_of_their_api(client: TestClient):
    assert client.get("/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    assert client.get("/api/nothing").json()["error"] == "not_found"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b'"\xff"', b'{"model": NaN}', b'{"model": "\\ud800"}', b"[]", b"5"],
)
def test_what_is_no_object_of_json_is_refused_in_openais_form(client: TestClient, body: bytes):
    answer = client.post(
        "/v1/completions", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_wrong_fields_are_all_named_and_nothing_that_was_written(client: TestClient):
    secret = "a-word-of-mine"
    asked: dict[str, Any] = {"model": secret, "prompt": [secret, 5], "n": secret, secret: 1}
    answer = client.post("/v1/completions", json=asked)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "prompt: " in message and "n: " in message and "a field: " in message
    assert secret not in answer.text


def test_the_reference_api_tells_wrong_fields_in_its_own_form(client: TestClient):
    answer = client.post("/api/generate", json={"prompt": 5})
    assert answer.status_code == 422
    assert answer.json()["error"] == "invalid_request"
    assert answer.json()["field"] in ("prompt", "max_tokens", "temperature")


@pytest.mark.parametrize(
    ("error", "status", "code", "waits"),
    [
        (QueueFull(7), 503, "queue_full", "7"),
        (NotServing("the engine is draining"), 503, "not_serving", "2"),
        (GenerationFailed("failed"), 500, "generation_failed", None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/api/generate"])
def test_what_the_engine_raises_has_a_status_and_a_time_to_come_again(
    error: Exception, status: int, code: str, waits: str | None, path: str
):
    request = Request(
        {"type": "http", "path": path, "headers": [], "query_string": b"", "server": ("h", 1)}
    )
    answer: Any = HANDLERS[type(error)](request, error)
    content = json.loads(answer.body)["error"]
    assert answer.status_code == status
    assert (content["code"] if path.startswith("/v1") else content) == code
    assert answer.headers.get("retry-after") == waits


def test_the_documentation_is_there(client: TestClient):
    assert client.get("/docs").status_code == 200


def test_no_answer_names_a_folder(client: TestClient, service: Service):
    folder = str(service.current().workdir.parent)
    for path in ("/v1/models", "/api/info", "/api/health", "/api/checkpoints", "/openapi.json"):
        assert folder not in client.get(path).text


def test_generations_are_timed(client: TestClient):
    def count() -> float:
        lines = client.get("/metrics").text.splitlines()
        name = "nanogpt_jax_first_token_seconds_count "
        return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = count()
    # The likeliest token, because one drawn may be that of the end, which is none to be timed.
    asked = {"model": "run", "prompt": "1", "max_tokens": 2, "n": 3, "temperature": 0}
    assert client.post("/v1/completions", json=asked).status_code == 200
    assert count() == before + 3
