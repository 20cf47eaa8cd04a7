"""/api/generate, /api/info and /api/health, on a small trained run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from nanogpt_jax import inspection
from nanogpt_jax.experiment import prompt_tokens
from nanogpt_jax.serve import heads
from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Served, Service

URL = "http://127.0.0.1:8787"
PROMPT = "3 times 4 is "
ASKED = {"prompt": PROMPT, "max_tokens": 5, "temperature": 0.8, "seed": 7}


def client_of(service: Any, **caps: Any) -> TestClient:
    return TestClient(build_app(service, Caps(**{"rate": 0.0, **caps})), base_url=URL)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with client_of(service) as client:
        yield client


def generate(client: TestClient, **changes: Any) -> Any:
    body = {**ASKED, **changes}
    return client.post("/api/generate", json={k: v for k, v in body.items() if v is not ...})


def test_an_answer_has_the_text_its_tokens_and_where_every_head_looked(
    client: TestClient, service: Service
):
    answer = generate(client)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.keys() == {"generated", "tokens", "attention"}
    assert found["generated"] == "".join(found["tokens"])  # of characters
    assert found["generated"].startswith(PROMPT) and len(found["tokens"]) == len(PROMPT) + 5
    order = [(entry["layer"], entry["head"]) for entry in found["attention"]]
    assert order == [(layer, head) for layer in range(2) for head in range(4)]

    run = service.current().run
    tokens = prompt_tokens(run, found["generated"])
    expected = inspection.attention(run.model, run.params, tokens).probabilities_LHTS
    weights = np.array([entry["weights"] for entry in found["attention"]])
    np.testing.assert_allclose(weights.reshape(expected.shape), expected, atol=2e-6)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-4)


def test_attention_is_that_of_the_last_tokens_that_fit_into_the_context(
    client: TestClient, service: Service
):
    found = generate(client, max_tokens=60).json()
    assert len(found["tokens"]) == len(PROMPT) + 60 > 64
    weights = np.array(found["attention"][0]["weights"])
    assert weights.shape == (64, 64)
    run = service.current().run
    ids = {
        run.tokenizer.decode([id_], show_special=True): id_ for id_ in range(run.shape.vocab_size)
    }
    tokens = [ids[text] for text in found["tokens"]][-64:]
    expected = inspection.attention(run.model, run.params, tokens).probabilities_LHTS[0, 0]
    np.testing.assert_allclose(weights, expected, atol=2e-6)


def test_a_seed_repeats_a_text_and_without_one_texts_differ(client: TestClient):
    texts = [generate(client, max_tokens=40, seed=seed).text for seed in (7, 7, ..., ...)]
    assert texts[0] == texts[1] and texts[2] != texts[3]


def test_our_own_settings_reach_the_sampler(client: TestClient):
    greedy = generate(client, max_tokens=20, temperature=1e-6).json()["tokens"]
    for setting in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
        drawn = generate(client, max_tokens=20, temperature=1, seed=..., **setting).json()
        assert drawn["tokens"] == greedy
    penalised = generate(client, max_tokens=20, temperature=1e-6, repetition_penalty=100).json()
    assert penalised["tokens"] != greedy


def test_attention_above_the_cap_is_left_out_and_the_model_is_not_asked_for_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    bounds = []
    for max_tokens in (1, 9, 40, 60):
        with client_of(service, max_payload_bytes=1000) as client:
            monkeypatch.setattr(inspection, "attention", None)
            small = generate(client, max_tokens=max_tokens)
            monkeypatch.undo()
        assert small.status_code == 200 and len(small.content) < 1500
        assert small.json().keys() == {"generated", "tokens", "attention_omitted"}
        omitted = small.json()["attention_omitted"]
        assert omitted["cap"] == 1000
        bounds.append(omitted["bytes"])
        with client_of(service, max_payload_bytes=omitted["bytes"]) as client:
            whole = generate(client, max_tokens=max_tokens)
        assert whole.json()["tokens"] == small.json()["tokens"] and "attention" in whole.json()
        assert 0.5 * bounds[-1] < len(whole.content) <= bounds[-1]
    assert bounds == sorted(bounds)


CHECKS = [
    ("bad_request", {"prompt": ""}, {}),
    ("prompt_too_large", {"prompt": "\u0000é" * 20}, {"max_bytes": 50, "actual_bytes": 60}),
    ("max_tokens_out_of_range", {"max_tokens": 0}, {"max_allowed": 30, "requested": 0}),
    ("max_tokens_out_of_range", {"max_tokens": 31}, {"max_allowed": 30, "requested": 31}),
    ("bad_request", {"temperature": 0}, {"message": "temperature must be greater than 0"}),
    ("bad_request", {"temperature": -1.5}, {"message": "temperature must be greater than 0"}),
    ("bad_request", {"top_k": 0}, {}),
    ("bad_request", {"prompt": "né"}, {}),
    ("rate_limited", {}, {}),
]


@pytest.mark.parametrize("place", range(len(CHECKS)))
def test_the_first_check_that_fails_answers_and_only_valid_requests_count(
    place: int, service: Service
):
    """All that is wrong from a place of the list on is wrong at once."""
    body: dict[str, Any] = {}
    for _, changes, _ in reversed(CHECKS[place:]):
        body |= changes
    with client_of(service, max_prompt_bytes=50, max_tokens=30, rate=0.001, burst=1) as client:
        if place < len(CHECKS) - 1:
            tag, _, fields = CHECKS[place]
            answer = generate(client, **body)
            assert answer.status_code == 400
            assert answer.json()["error"] == tag and fields.items() <= answer.json().items()
        assert generate(client).status_code == 200
        limited = generate(client)
        assert limited.status_code == 429 and limited.json()["error"] == "rate_limited"
        seconds = limited.json()["retry_after_seconds"]
        assert 990 <= seconds <= 1000 and limited.headers["retry-after"] == str(seconds)
        assert generate(client, temperature=0).status_code == 400  # still checked first
        assert client.get("/api/info").status_code == client.get("/api/health").status_code == 200


def test_the_caps_themselves_are_allowed(service: Service):
    with client_of(service, max_prompt_bytes=len(PROMPT), max_tokens=5) as client:
        assert generate(client).status_code == 200


def test_a_character_without_a_token_is_named_by_its_code_point_alone(client: TestClient):
    answer = generate(client, prompt="time\u00e9")
    assert answer.status_code == 400 and "U+00E9" in answer.json()["message"]
    assert "time" not in answer.text and "\u00e9" not in answer.json()["message"]


@pytest.mark.parametrize("name", ["prompt", "max_tokens", "temperature"])
def test_required_fields_are_required(name: str, client: TestClient):
    answer = generate(client, **{name: ...})
    assert answer.status_code == 422 and name in answer.json()["message"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("prompt", [None, True, 5, [], {}, ["a"]]),
        ("max_tokens", [None, True, "5", 5.5, -1, 2**31, 10**400]),
        ("temperature", [None, True, "1", [], 1e30, 10**400]),
        ("top_k", [True, "5", 1.5, -1, 2**31]),
        ("top_p", [-0.1, 1.0000001, "1", True]),
        ("min_p", [-0.1, 1.1]),
        ("repetition_penalty", [0, 101]),
        ("seed", [-1, 2**32, 1.5, "1"]),
        ("unknown", [1]),
    ],
)
def test_other_types_and_unknown_fields_are_refused(
    name: str, values: list[Any], client: TestClient
):
    for value in values:
        answer = generate(client, **{name: value})
        assert (answer.status_code, "error" in answer.json()) == (422, True), value


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"prompt": NaN}', b'{"prompt": "\\ud800"}', b"\xff"]
)
def test_a_body_that_is_no_request_is_refused(body: bytes, client: TestClient):
    headers = {"content-type": "application/json"}
    answer = client.post("/api/generate", content=body, headers=headers)
    assert answer.status_code in (400, 422) and "error" in answer.json()


def test_a_run_on_documents_ends_where_a_document_does(chat_service: Service):
    with client_of(chat_service) as client:
        asked = {"prompt": "a", "max_tokens": 200, "temperature": 2.0}
        tokens = [generate(client, seed=seed, **asked).json()["tokens"] for seed in range(4)]
    assert all(each[0] == "<|bos|>" for each in tokens)
    assert not any("<|bos|>" in each[1:] for each in tokens)
    assert min(map(len, tokens)) < 202


def test_a_generation_that_the_server_ends_early_is_no_answer(service: Service):
    served = service.current()

    def submit(request: object, listener: Any, *, client: str) -> object:
        listener.finish("abort")
        return object()

    engine: Any = SimpleNamespace(
        submit=submit, cancel=lambda ticket: None, check_room=lambda client: None
    )
    ending = SimpleNamespace(
        current=lambda: Served(served.workdir, served.run, engine, served.checkpoint_sha256)
    )
    answer = generate(client_of(ending))
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"


def test_info_tells_the_model_in_numbers(client: TestClient, service: Service):
    vocab_size = service.current().run.tokenizer.vocab_size
    assert client.get("/api/info").json() == {
        "model_kind": "gpt",
        "vocab_size": vocab_size,
        "num_layers": 2,
        "num_heads": 4,
        "block_size": 64,
        "num_experts": 0,
        "moe_top_k": 0,
        "tokenizer_vocab_size": vocab_size,
        "model_tokenizer_vocab_match": True,
    }


def test_health_names_what_is_served_and_no_path(
    client: TestClient, service: Service, workdir: Path
):
    answer = client.get("/api/health")
    found, run = answer.json(), service.current().run
    assert found.keys() == {"status", "uptime_seconds", "model", "checkpoint", "tokenizer"}
    assert found["status"] == "ok" and found["uptime_seconds"] > 0
    assert found["model"] == {
        "kind": "gpt",
        "embed_dim": 32,
        "num_heads": 4,
        "num_layers": 2,
        "block_size": 64,
        "vocab_size": run.shape.vocab_size,
        "num_experts": 0,
        "moe_top_k": 0,
    }
    sha256 = service.current().checkpoint_sha256
    assert found["checkpoint"] == {
        "loaded": True,
        "source": "explicit",
        "basename": "6",
        "sha256": sha256,
    }
    assert len(sha256) == 64
    assert found["tokenizer"] == {"kind": "char", "sha256": run.tokenizer.sha256}
    assert str(workdir.parent) not in answer.text


def test_the_forms_of_the_documentation_are_those_of_the_answers(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"200", "400", "429", "503", "4XX"} <= paths["/api/generate"]["post"]["responses"].keys()
    assert {"/api/info", "/api/health"} <= paths.keys()


def test_json_has_no_number_that_is_none():
    with pytest.raises(ValueError):
        heads._dump(np.array([[np.nan]]))
    assert json.loads(heads._dump(np.array([[1 / 3, 1e-9]], np.float32))) == [[0.333333, 0.0]]
