"""POST /api/continue: what the events say, what is refused, and how a stream ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from nanogpt_jax.decoding import MOST_ALTERNATIVES
from nanogpt_jax.experiment import prompt_tokens
from nanogpt_jax.generate import Generator
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.serve.api.asked import read_opening
from nanogpt_jax.serve.api.writing import (
    Begun,
    ContinueEvent,
    ContinueRequest,
    Ended,
    Going,
    events,
    request_for,
)
from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.completions import GenerationFailed, Piece, Written
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service
from nanogpt_jax.slots import Alternative, Drawn
from tests.runs import ANSWERS
from tests.serve.surface import URL

PROMPT = "3 times 4 is "
ASKED = {"prompt": PROMPT, "max_tokens": 12, "seed": 7}


def client_of(service: Service, **caps: Any) -> TestClient:
    return TestClient(build_app(service, Caps(**{"rate": 0.0, **caps})), base_url=URL)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with client_of(service) as client:
        yield client


def ask(client: TestClient, **changes: Any) -> Any:
    body = {**ASKED, **changes}
    return client.post("/api/continue", json={k: v for k, v in body.items() if v is not ...})


def read(answer: Any) -> tuple[Begun, list[Going], Ended]:
    """The events of a stream, each of the form that is documented."""
    assert answer.status_code == 200, answer.text
    lines = answer.text.split("\n\n")
    assert lines.pop() == "" and all(line.startswith("data: ") for line in lines)
    found = [ContinueEvent.model_validate_json(line.removeprefix("data: ")).root for line in lines]
    begun, *going, ended = found
    assert isinstance(begun, Begun) and isinstance(ended, Ended)
    return begun, [each for each in going if isinstance(each, Going)], ended


def tokens_of(going: list[Going]) -> list[int]:
    return [token.id for each in going for token in each.tokens]


def test_the_first_event_says_what_is_continued_and_the_last_how_it_ended(
    client: TestClient, service: Service
):
    answer = ask(client)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    begun, going, ended = read(answer)
    served = service.current()
    assert begun.prompt == prompt_tokens(served.run, PROMPT)
    assert (begun.seed, begun.step, begun.run) == (7, 6, service.name_of(served))
    assert (ended.finish, ended.message) == ("length", None)
    assert len(tokens_of(going)) == 12


def test_tokens_and_probabilities_are_those_that_the_model_gives_without_a_server(
    client: TestClient, service: Service
):
    run = service.current().run
    _, going, _ = read(ask(client, temperature=0.7, top_k=5, alternatives=3))
    generator = Generator(run.model, run.shape.max_seq_len)
    sampling = Sampling(temperature=0.7, top_k=5, seed=7)
    prompt = prompt_tokens(run, PROMPT)
    expected = [
        *generator.stream(
            run.params, prompt, sampling, max_tokens=12, stop=frozenset(), alternatives=3
        )
    ]
    found = [token for each in going for token in each.tokens]
    assert [token.id for token in found] == [drawn.token for drawn in expected]
    for token, drawn in zip(found, expected, strict=True):
        np.testing.assert_allclose(token.logprob, drawn.logprob, rtol=1e-4)
        ids = [other.id for other in token.alternatives]
        assert ids == [other.token for other in drawn.alternatives]
        assert len(ids) == 3 and token.alternatives[0].logprob >= token.alternatives[2].logprob


def test_the_text_is_that_of_the_tokens(client: TestClient, service: Service):
    _, going, _ = read(ask(client))
    text = "".join(each.text for each in going)
    assert text and text == service.current().run.tokenizer.decode(tokens_of(going))


def test_ids_are_continued_like_the_text_that_they_stand_for(client: TestClient, service: Service):
    ids = prompt_tokens(service.current().run, PROMPT)
    asked = read(ask(client, prompt=ids))
    assert asked[0].prompt == ids
    assert tokens_of(asked[1]) == tokens_of(read(ask(client))[1])


def test_a_branch_goes_on_from_other_tokens_than_were_drawn(client: TestClient):
    begun, going, _ = read(ask(client, alternatives=2, temperature=0))
    first = going[0].tokens[0]
    [other] = [each.id for each in first.alternatives if each.id != first.id]
    branch = read(ask(client, prompt=[*begun.prompt, other], temperature=0))
    assert branch[0].prompt == [*begun.prompt, other]


def test_without_a_seed_the_one_that_was_drawn_repeats_the_text(client: TestClient):
    first, going, _ = read(ask(client, seed=...))
    second, others, _ = read(ask(client, seed=None))
    assert first.seed != second.seed and tokens_of(going) != tokens_of(others)
    assert tokens_of(read(ask(client, seed=first.seed))[1]) == tokens_of(going)


def test_settings_reach_the_sampler(client: TestClient):
    greedy = tokens_of(read(ask(client, temperature=0))[1])
    for setting in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
        assert tokens_of(read(ask(client, **setting))[1]) == greedy
    assert tokens_of(read(ask(client, temperature=0, repetition_penalty=100))[1]) != greedy


def test_a_text_ends_before_a_stop_string(client: TestClient):
    whole = "".join(each.text for each in read(ask(client))[1])
    _, going, ended = read(ask(client, stop=[whole[4:6]]))
    assert ended.finish == "stop"
    assert "".join(each.text for each in going) == whole[: whole.index(whole[4:6])]


def test_the_window_slides_past_the_context(client: TestClient, service: Service):
    context = service.current().run.shape.max_seq_len
    begun, going, ended = read(ask(client, prompt=PROMPT * 6, max_tokens=20))
    assert len(begun.prompt) > context and len(tokens_of(going)) == 20
    assert ended.finish == "length"


def test_a_document_ends_where_its_stop_tokens_are_drawn_and_running_text_never(
    service: Service, chat_service: Service
):
    asked = ContinueRequest(prompt="", max_tokens=5)
    running, chat = service.current().run, chat_service.current().run
    ends = [request_for(asked, read_opening(run, "prompt", [1])).stop for run in (running, chat)]
    assert running.tokenizer.stop_ids and ends[0] == frozenset()
    assert ends[1] == chat.tokenizer.stop_ids != frozenset()


def conversation(*said: str) -> list[dict[str, str]]:
    """What a user and the assistant say in turn."""
    roles = itertools.cycle(("user", "assistant"))
    return [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]


def test_a_conversation_is_answered_in_a_stream_and_whole_alike(chat_service: Service):
    run = chat_service.current().run
    question, answer = next(iter(ANSWERS.items()))
    asked = {"prompt": conversation(question), "temperature": 0, "max_tokens": 20, "seed": 1}
    with client_of(chat_service) as client:
        begun, going, ended = read(client.post("/api/continue", json=asked))
        whole = client.post("/api/inspect/text", json=asked).json()
    assert run.tokenizer.decode(tokens_of(going)) == answer and ended.finish == "stop"
    assert begun.prompt[-1] == run.tokenizer.special_id("<|assistant_start|>")
    assert (whole["prompt"], whole["finish"]) == (begun.prompt, "stop")
    assert [token["id"] for token in whole["tokens"]] == tokens_of(going)


def test_an_answer_ends_with_the_context_and_a_longer_conversation_is_refused(
    chat_service: Service,
):
    context = chat_service.current().run.shape.max_seq_len
    asked = {"temperature": 100.0, "max_tokens": 2 * context}
    with client_of(chat_service) as client:
        for path in ("/api/continue", "/api/inspect/text"):
            long = {**asked, "prompt": conversation("one?", "two", "two?", "three", "three?")}
            refused = client.post(path, json=long)
            assert refused.status_code == 400
            assert refused.json()["error"] == "context_length_exceeded"
            assert refused.json()["required"] == context < refused.json()["found"]
            short = {**asked, "prompt": conversation("one?")}
            room = context - len(client.post("/api/inspect/text", json=short).json()["prompt"]) + 1
            # So hot that every token is as likely as the end: one of a few seeds does without it.
            ends = (client.post(path, json={**short, "seed": seed}) for seed in range(99))
            full = next(answer.text for answer in ends if '"length"' in answer.text)
            assert full.count('"alternatives":') == room < 2 * context


def test_a_run_that_knows_no_conversations_says_so(client: TestClient):
    answer = ask(client, prompt=conversation("3 times 4"))
    assert answer.status_code == 400 and answer.json()["error"] == "unsupported_model"
    assert "not tuned on conversations" in answer.json()["message"]


def test_an_empty_text_is_the_beginning_of_one(client: TestClient, service: Service):
    begun, going, _ = read(ask(client, prompt=""))
    assert begun.prompt == prompt_tokens(service.current().run, "") and tokens_of(going)


@pytest.mark.parametrize("prompt", ["3 \u2603", [10**6], [0, 2**31 - 1]])
def test_what_has_no_token_is_refused_before_the_stream_begins(prompt: Any, client: TestClient):
    answer = ask(client, prompt=prompt)
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/json"
    assert answer.json()["field"] == "prompt" and "error" in answer.json()


@pytest.mark.parametrize(
    ("changes", "tag"),
    [
        ({"prompt": "3" * 101}, "prompt_too_large"),
        ({"prompt": [1] * 101}, "prompt_too_large"),
        ({"prompt": "\u00e9" * 51}, "prompt_too_large"),
        ({"max_tokens": 33}, "max_tokens_out_of_range"),
    ],
)
def test_the_servers_caps_hold(changes: dict[str, Any], tag: str, service: Service):
    with client_of(service, max_prompt_bytes=100, max_tokens=32) as client:
        answer = ask(client, **changes)
        assert (answer.status_code, answer.json()["error"]) == (400, tag)
        read(ask(client, prompt="3" * 100, max_tokens=32))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": ...},
        {"prompt": None},
        {"prompt": []},
        {"prompt": [-1]},
        {"prompt": [1.0]},
        {"prompt": [True]},
        {"max_tokens": 0},
        {"max_tokens": "5"},
        {"temperature": -0.1},
        {"temperature": 101},
        {"top_p": 1.1},
        {"repetition_penalty": 0},
        {"seed": 2**32},
        {"stop": ["a"] * 5},
        {"stop": "a"},
        {"stop": [""]},
        {"alternatives": MOST_ALTERNATIVES + 1},
        {"alternatives": None},
        {"run": "another"},
    ],
)
def test_other_types_values_out_of_bounds_and_unknown_fields_are_refused(
    changes: dict[str, Any], client: TestClient
):
    answer = ask(client, **changes)
    assert answer.status_code == 422 and answer.json()["error"] == "invalid_request"


def test_a_client_is_limited_as_in_generate_and_the_same_bucket_counts(service: Service):
    with client_of(service, rate=1e-6, burst=2) as client:
        read(ask(client))
        asked = {"prompt": PROMPT, "max_tokens": 1, "temperature": 1.0}
        assert client.post("/api/generate", json=asked).status_code == 200
        refused = ask(client)
    assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
    assert refused.headers["retry-after"]


def run_events(pieces: list[Piece | Exception]) -> list[Any]:
    async def completions() -> Any:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def collect() -> list[Any]:
        begun = Begun(prompt=[1], seed=0, run="run", step=1)
        source: Any = completions()
        return [json.loads(each.removeprefix("data: ")) async for each in events(begun, source)]

    return asyncio.run(collect())


def test_a_stream_that_is_cut_off_says_so_in_its_last_event():
    written = Piece(0, "a", (), 1)
    for cut, finish in (
        (Piece(0, "", (), 1, "abort"), "abort"),
        (GenerationFailed("the log says"), "error"),
    ):
        _, going, ended = run_events([written, cut])
        assert going == {"tokens": [], "text": "a"}
        assert ended["finish"] == finish and "ask again" in ended["message"]


def test_a_probability_of_nothing_is_a_number_of_json():
    drawn = Drawn(1, -math.inf, (Alternative(2, math.nan),))
    _, going = run_events([Piece(0, "", (Written(drawn, 0),), 1)])
    assert going["tokens"] == [
        {"id": 1, "logprob": -9999.0, "alternatives": [{"id": 2, "logprob": -9999.0}]}
    ]
