"""/api/inspect/* and /api/checkpoints, on a small trained run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from fastapi.testclient import TestClient

from nanogpt_jax import inspection
from nanogpt_jax.experiment import prompt_tokens
from nanogpt_jax.serve.api import inspect as routes
from nanogpt_jax.serve.inspections import plan_ablation
from nanogpt_jax.serve.plans import Prompt
from nanogpt_jax.serve.service import Service
from tests.fakes import compile_events
from tests.serve.inspected import (
    OTHER,
    PROMPT,
    another_model,
    app_of,
    ask,
    ask_bytes,
)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(app_of(service)) as client:
        yield client


def test_tokens_are_what_inspection_says(client: TestClient, service: Service):
    run = service.current().run
    tokens = prompt_tokens(run, PROMPT)
    expected = inspection.predict(run.model, run.params, tokens, alternatives=3, padded_length=16)
    found = ask_bytes(client, "tokens", prompt=PROMPT, alternatives=3)
    np.testing.assert_array_equal(found["tokens"], tokens)
    np.testing.assert_allclose(found["nats"], expected.nats_P, rtol=1e-5)
    np.testing.assert_array_equal(found["ranks"], expected.ranks_P)
    np.testing.assert_array_equal(found["alternatives"], expected.tokens_TA)
    np.testing.assert_allclose(found["logprobs"], expected.logprobs_TA, rtol=1e-5)


def test_the_table_of_texts_names_every_token_of_the_answer(client: TestClient):
    body = ask(client, "tokens", prompt=PROMPT, alternatives=2)
    texts, fields = body["texts"], body["fields"]
    assert "".join(texts[str(token)] for token in fields["tokens"]) == PROMPT
    assert texts.keys() == {
        str(token) for row in [fields["tokens"], *fields["alternatives"]] for token in row
    }


def test_json_and_bytes_agree(client: TestClient):
    fields = ask(client, "attention", prompt=PROMPT)["fields"]
    arrays = ask_bytes(client, "attention", prompt=PROMPT)
    assert fields.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(np.array(fields[name]), array, rtol=5e-6, err_msg=name)


def test_attention_shows_the_layers_and_heads_asked_for(client: TestClient):
    whole = ask_bytes(client, "attention", prompt=PROMPT)
    assert whole["probabilities"].shape == (2, 4, len(PROMPT), len(PROMPT))
    np.testing.assert_allclose(whole["probabilities"].sum(-1), 1, rtol=1e-5)
    part = ask_bytes(client, "attention", prompt=PROMPT, layers=[1], heads=[3, 0, 3])
    for name in ("probabilities", "entropy_nats", "distance_tokens"):
        np.testing.assert_array_equal(part[name], whole[name][1:, [0, 3]])
    body = ask(client, "attention", prompt=PROMPT, layers=[1], heads=[3, 0])
    assert (body["layers"], body["heads"]) == ([1], [0, 3])


def test_half_precision_is_half_the_size_and_near(client: TestClient):
    full = ask_bytes(client, "attention", prompt=PROMPT)["probabilities"]
    half = ask_bytes(client, "attention", prompt=PROMPT, precision="float16")["probabilities"]
    assert (full.dtype, half.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(half, full, rtol=1e-3, atol=1e-6)


def test_the_last_depth_of_the_lens_is_the_model(client: TestClient):
    tokens = ask_bytes(client, "tokens", prompt=PROMPT)
    lens = ask_bytes(client, "lens", prompt=PROMPT)
    assert lens["nats"].shape == (3, len(PROMPT) - 1)
    np.testing.assert_allclose(lens["nats"][-1], tokens["nats"], rtol=1e-4)
    last = ask_bytes(client, "lens", prompt=PROMPT, depths=[2])
    np.testing.assert_array_equal(last["logprobs"], lens["logprobs"][2:])


def test_ablation_gives_losses_with_and_without_every_part(client: TestClient, service: Service):
    run = service.current().run
    found = ask_bytes(client, "ablate", prompt=PROMPT)
    tokens = prompt_tokens(run, PROMPT)
    edits = inspection.silence(run.model, run.params, heads=[(1, 2)])
    without = inspection.predict(run.model, run.params, tokens, edits=edits, padded_length=16)
    assert found["without_mlp_nats"].shape == (2, len(PROMPT) - 1)
    np.testing.assert_allclose(found["without_head_nats"][1, 2], without.nats_P, rtol=1e-4)
    assert not np.allclose(found["without_head_nats"][1, 2], found["nats"], rtol=1e-3)
    part = ask_bytes(client, "ablate", prompt=PROMPT, layers=[1], heads=[2])
    np.testing.assert_array_equal(part["without_head_nats"], found["without_head_nats"][1:, 2:3])


def test_patching_brings_the_clean_answer_back(client: TestClient):
    found = ask_bytes(client, "patch", clean=PROMPT, corrupted=OTHER)
    T = len(PROMPT)
    assert found["patched_position_logprobs"].shape == (2, T)
    assert found["patched_head_logprobs"].shape == (2, 4)
    # What stands before the first difference is the same already.
    same = found["patched_position_logprobs"][:, : PROMPT.index("4")]
    np.testing.assert_allclose(same, found["corrupted_logprob"], rtol=1e-4)
    given = ask(client, "patch", clean=PROMPT, corrupted=OTHER, answer=int(found["answer"]))
    assert given["fields"]["clean_logprob"] == pytest.approx(
        float(found["clean_logprob"]), rel=1e-4
    )


def test_a_prompt_can_be_seen_over_training(client: TestClient, service: Service):
    listed = client.get("/api/checkpoints").json()
    steps = [one["step"] for one in listed["checkpoints"]]
    assert steps == sorted(steps) and len(steps) >= 3
    assert listed["served"] == service.current().run.step == steps[-1]
    assert sum(one["best"] for one in listed["checkpoints"]) == 1
    means = []
    for step in steps:
        body = ask(client, "tokens", prompt=PROMPT, step=step)
        assert body["step"] == step
        means.append(np.mean(body["fields"]["nats"]))
    assert len(set(means)) == len(steps)
    assert ask(client, "tokens", prompt=PROMPT)["fields"]["nats"] == body["fields"]["nats"]


def test_checkpoints_name_no_path(client: TestClient, workdir: Path):
    answer = client.get("/api/checkpoints")
    assert answer.status_code == 200
    assert str(workdir.parent) not in answer.text and "/" not in answer.text


@pytest.mark.parametrize(
    ("what", "status", "tag", "body"),
    [
        ("tokens", 404, "unknown_step", {"prompt": PROMPT, "step": 5}),
        ("tokens", 400, "prompt_too_large", {"prompt": "3" * 8193}),
        ("tokens", 400, "context_length_exceeded", {"prompt": "3" * 65}),
        ("tokens", 400, "bad_request", {"prompt": "3 ☃ 4"}),
        ("tokens", 400, "bad_request", {"prompt": "\ud800"}),
        ("ablate", 400, "bad_request", {"prompt": "3"}),
        ("attention", 400, "bad_request", {"prompt": PROMPT, "layers": [2]}),
        ("attention", 400, "bad_request", {"prompt": PROMPT, "heads": [0, 4]}),
        ("lens", 400, "bad_request", {"prompt": PROMPT, "depths": [3]}),
        ("patch", 400, "bad_request", {"clean": PROMPT, "corrupted": "3"}),
        ("patch", 400, "bad_request", {"clean": "3", "corrupted": "4", "answer": 10**6}),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    client: TestClient, what: str, status: int, tag: str, body: dict[str, Any]
):
    sent = client.post(
        f"/api/inspect/{what}",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )
    assert (sent.status_code, sent.json()["error"]) == (status, tag)
    assert "☃" not in sent.text and PROMPT not in sent.text


def test_a_prompt_that_is_too_long_says_by_how_much(client: TestClient):
    refused = ask(client, "tokens", 400, prompt="3" * 65)
    assert (refused["found"], refused["required"]) == (65, 64)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": None},
        {"prompt": 5},
        {"more": 1},
        {"step": True},
        {"step": "2"},
        {"step": -1},
        {"step": 10**400},
        {"alternatives": 21},
        {"alternatives": -1},
        {"alternatives": 2.5},
        {"precision": "float64"},
    ],
)
def test_fields_of_another_type_are_refused(client: TestClient, change: dict[str, Any]):
    assert ask(client, "tokens", 422, **({"prompt": PROMPT} | change))


@pytest.mark.parametrize("layers", [[], [-1], [True], ["1"], list(range(1025))])
def test_places_are_small_lists_of_numbers(client: TestClient, layers: Any):
    assert ask(client, "attention", 422, prompt=PROMPT, layers=layers)


def test_what_is_not_accepted_is_refused(client: TestClient):
    answer = client.post(
        "/api/inspect/tokens", json={"prompt": PROMPT}, headers={"accept": "text/html"}
    )
    assert (answer.status_code, answer.json()["error"]) == (406, "not_acceptable")


def test_attention_of_a_mixture_shows_its_experts(service: Service):
    sizes = {"n_layer": 2, "n_head": 2, "d_model": 8, "max_seq_len": 16, "n_expert": 3}
    moe = another_model(service, "moe", drawn=True, **sizes)
    with TestClient(app_of(moe)) as client:
        found = ask_bytes(client, "attention", prompt=PROMPT, layers=[1])
    assert found["router_probabilities"].shape == (1, len(PROMPT), 3)
    np.testing.assert_array_equal((found["gates"] > 0).sum(-1), 2)
    np.testing.assert_allclose(found["expert_share"].sum(-1), 1, rtol=1e-5)


def test_a_model_is_asked_only_for_what_it_has(service: Service):
    table = another_model(service, "embedding", d_model=8)
    with TestClient(app_of(table)) as client:
        for what in ("lens", "attention", "ablate"):
            assert ask(client, what, 400, prompt=PROMPT)["error"] == "bad_request"
        assert ask(client, "patch", 400, clean=PROMPT, corrupted=OTHER)["error"] == "bad_request"
    run = another_model(service, "single_head", d_model=8).current().run
    plan = plan_ablation(Prompt(run, [1, 2, 3]), layers=None, heads=None)
    assert plan.fields.keys() == {"tokens", "nats", "without_head_nats"}


def test_prompts_of_all_lengths_share_a_few_programs(client: TestClient):
    for length in (3, 12, 20, 40):
        ask(client, "tokens", prompt="3" * length)
    with compile_events() as compiled:
        for length in range(2, 65, 5):
            ask(client, "tokens", prompt="4" * length, alternatives=length % 21)
    assert compiled == []


def test_a_run_that_is_swapped_meanwhile_is_not_mixed_with_another(service: Service):
    """A step's number means another checkpoint in another run."""
    served = service.current()
    answers = iter([served, served._replace(workdir=Path("another"))])
    swapped = SimpleNamespace(current=lambda: next(answers), params_at=service.params_at)
    with TestClient(app_of(service)) as client:
        expected = ask(client, "tokens", prompt=PROMPT, step=2)
    with TestClient(app_of(swapped)) as client:
        assert ask(client, "tokens", prompt=PROMPT, step=2) == expected


def test_numbers_that_are_not_finite_leave_json_whole(service: Service):
    served = service.current()
    broken = jax.tree.map(lambda leaf: leaf * math.nan, served.run.params)
    run = dataclasses.replace(served.run, params=broken)
    sick = SimpleNamespace(current=lambda: served._replace(run=run))
    with TestClient(app_of(sick)) as client:
        body = ask(client, "tokens", prompt=PROMPT)
    assert set(body["fields"]["nats"]) == {None}


def test_the_schema_names_every_route(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    of_arrays = {f"/api/inspect/{name}" for name in routes.FORMS}
    assert of_arrays | {"/api/inspect/text", "/api/checkpoints"} == paths.keys()
    for path in of_arrays:
        answer = paths[path]["post"]["responses"]["200"]["content"]
        assert answer.keys() == {"application/json", "application/octet-stream"}
