"""POST /api/inspect/text: how a prompt goes on, as any checkpoint of any run writes it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from fastapi.testclient import TestClient

from nanogpt_jax import experiment
from nanogpt_jax.experiment import prompt_tokens
from nanogpt_jax.generate import Generator
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service
from tests.serve.inspected import FREE, PROMPT, another_model, app_of, ask

OTHER_RUN = "seeds/one"


@pytest.fixture(scope="module")
def client(shelf_service: Service) -> Iterator[TestClient]:
    with TestClient(app_of(shelf_service)) as client:
        yield client


def test_a_text_goes_on_as_the_checkpoint_writes_it(client: TestClient, shelf: Path):
    other = experiment.load(shelf / OTHER_RUN, "3")
    tokens = prompt_tokens(other, PROMPT)
    generator = Generator(other.model, other.shape.max_seq_len)
    settings = {"temperature": 0.8, "top_k": 5, "repetition_penalty": 1.1, "seed": 7}
    drawn = [*generator.stream(other.params, tokens, Sampling(**settings), max_tokens=30)]
    asked = {"prompt": PROMPT, "max_tokens": 30, "alternatives": 3, **settings}
    found = ask(client, "text", run=OTHER_RUN, step=3, **asked)
    assert found["prompt"] == tokens
    assert [token["id"] for token in found["tokens"]] == [each.token for each in drawn]
    assert (found["finish"], found["seed"], found["step"]) == ("length", 7, 3)
    for told, each in zip(found["tokens"], drawn, strict=True):
        assert told["logprob"] == pytest.approx(each.logprob, rel=1e-4)
        best = [one["logprob"] for one in told["alternatives"]]
        assert len(best) == 3 and best == sorted(best, reverse=True)
    early = ask(client, "text", run=OTHER_RUN, step=0, **asked)
    assert early["tokens"] != found["tokens"]


def test_a_text_may_be_longer_than_the_window(client: TestClient):
    found = ask(client, "text", prompt="3" * 100, max_tokens=100, temperature=0.0)
    assert (len(found["prompt"]), len(found["tokens"]), found["finish"]) == (100, 100, "length")


def test_a_seed_that_is_told_gives_the_same_text_again(client: TestClient):
    first = ask(client, "text", prompt=PROMPT, max_tokens=20)
    again = ask(client, "text", prompt=PROMPT, max_tokens=20, seed=first["seed"])
    assert again == first
    seeds = {ask(client, "text", prompt=PROMPT, max_tokens=1)["seed"] for _ in range(5)}
    assert len(seeds) > 1


def test_numbers_that_are_not_finite_leave_the_answer_whole(shelf_service: Service):
    served = shelf_service.current()
    broken = jax.tree.map(lambda leaf: leaf * math.nan, served.run.params)
    run = dataclasses.replace(served.run, params=broken)
    sick = SimpleNamespace(current=lambda: served._replace(run=run), library=shelf_service.library)
    with TestClient(app_of(sick)) as client:
        found = ask(client, "text", prompt=PROMPT, max_tokens=2, alternatives=2)
    assert len(found["tokens"]) == 2


@pytest.mark.parametrize(
    "change",
    [
        *({"max_tokens": value} for value in (0, 257, -1, 1.5, True, "4")),
        *({"temperature": value} for value in (-0.1, 101, "1")),
        *({"top_p": value} for value in (-0.1, 1.1)),
        *({"min_p": value} for value in (-0.1, 1.1)),
        *({"seed": value} for value in (-1, 2**32, 0.5)),
        *({"alternatives": value} for value in (-1, 21)),
        *({"repetition_penalty": value} for value in (0, 101)),
        *({name: 1} for name in ("precision", "stop", "stream", "unknown")),
        *({"run": value} for value in (5, ["gpt"], "x" * 513)),
    ],
    ids=str,
)
def test_a_field_out_of_range_is_refused(change: dict[str, Any], client: TestClient):
    assert ask(client, "text", 422, prompt=PROMPT, **change)["detail"]


def test_a_text_counts_by_what_it_takes(shelf_service: Service):
    """From a client's bucket: of short ones nine fit, of long ones one."""
    for fields, fitting in (
        ({"max_tokens": 1}, 9),
        ({"max_tokens": 256, "alternatives": 20}, 1),
    ):
        with TestClient(app_of(shelf_service, Caps(rate=1e-6, burst=1))) as client:
            answers = [
                client.post("/api/inspect/text", json={"prompt": "3", **fields}) for _ in range(11)
            ]
        statuses = [answer.status_code for answer in answers]
        assert statuses == [200] * fitting + [429] * (11 - fitting)
    assert answers[-1].json()["error"] == "rate_limited"


def test_an_answer_that_could_be_too_large_is_refused_and_others_are_not(shelf_service: Service):
    small = dataclasses.replace(FREE, max_payload_bytes=2000)
    with TestClient(app_of(shelf_service, small)) as client:
        refused = ask(client, "text", 413, prompt="3", max_tokens=256)
        assert (refused["error"], refused["max_bytes"]) == ("payload_too_large", 2000)
        answer = client.post("/api/inspect/text", json={"prompt": "3", "max_tokens": 10})
        assert answer.status_code == 200 and len(answer.content) <= 2000


@pytest.mark.parametrize("alternatives", [0, 5, 20])
def test_an_answer_fits_its_bound(alternatives: int, client: TestClient, shelf_service: Service):
    body = {"prompt": PROMPT, "max_tokens": 40, "alternatives": alternatives}
    size = len(client.post("/api/inspect/text", json=body).content)
    capped = dataclasses.replace(FREE, max_payload_bytes=size)
    with TestClient(app_of(shelf_service, capped)) as small:
        refused = ask(small, "text", 413, **body)
    assert size <= refused["bytes"] <= 4 * size


def test_a_text_of_a_large_model_is_refused_from_its_shape_alone(service: Service):
    sizes = {"n_layer": 24, "n_head": 16, "d_model": 1024, "max_seq_len": 256}
    large = another_model(service, "gpt", drawn=False, **sizes)
    large.library = service.library
    with TestClient(app_of(large)) as client:
        refused = ask(client, "text", 413, prompt="3" * 256, max_tokens=256)
    assert refused["error"] == "inspection_too_long"
