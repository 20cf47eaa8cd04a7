"""/api/inspect/* of any run and checkpoint: prompts of ids, silenced parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from nanogpt_jax import checkpoint, experiment, inspection
from nanogpt_jax.experiment import Loaded, prompt_tokens
from nanogpt_jax.serve.service import Service
from tests.fakes import compile_events
from tests.serve.inspected import OTHER, PROMPT, another_model, app_of, ask, ask_bytes

OTHER_RUN = "seeds/one"
QUESTIONS: dict[str, dict[str, Any]] = {
    "tokens": {"prompt": PROMPT},
    "lens": {"prompt": PROMPT},
    "attention": {"prompt": PROMPT},
    "ablate": {"prompt": PROMPT},
    "silence": {"prompt": PROMPT, "heads": [[0, 1]], "mlps": [1]},
    "patch": {"clean": PROMPT, "corrupted": OTHER},
    "text": {"prompt": PROMPT, "max_tokens": 8, "seed": 1},
}


@pytest.fixture(scope="module")
def client(shelf_service: Service) -> Iterator[TestClient]:
    with TestClient(app_of(shelf_service)) as client:
        yield client


@pytest.fixture(scope="module")
def other(shelf: Path) -> Loaded:
    """The run that is not served, at step 3."""
    return experiment.load(shelf / OTHER_RUN, "3")


def test_another_run_is_asked_by_its_name(client: TestClient, other: Loaded):
    tokens = prompt_tokens(other, PROMPT)
    expected = inspection.predict(other.model, other.params, tokens, padded_length=16)
    found = ask_bytes(client, "tokens", prompt=PROMPT, run=OTHER_RUN, step=3)
    np.testing.assert_allclose(found["nats"], expected.nats_P, rtol=1e-5)
    served = ask_bytes(client, "tokens", prompt=PROMPT)
    assert not np.allclose(found["nats"], served["nats"], rtol=1e-2)


@pytest.mark.parametrize("what", QUESTIONS)
def test_the_served_run_may_be_named_and_others_answer_the_same_questions(
    what: str, client: TestClient
):
    unnamed = ask(client, what, **QUESTIONS[what])
    assert ask(client, what, **QUESTIONS[what], run="gpt") == unnamed
    assert ask(client, what, **QUESTIONS[what], run="gpt", step=6) == unnamed
    other = ask(client, what, **QUESTIONS[what], run=OTHER_RUN)
    assert other["step"] == 24, "the newest"
    assert other.keys() == unnamed.keys() and other != unnamed


@pytest.mark.parametrize("what", QUESTIONS)
@pytest.mark.parametrize("name", ["../gpt", "another", "", "/etc", "seeds", "gpt/../gpt"])
def test_a_name_that_is_no_run_is_refused(what: str, name: str, client: TestClient):
    refused = ask(client, what, 404, **QUESTIONS[what], run=name)
    assert (refused["error"], refused["field"]) == ("run_not_found", "run")


@pytest.mark.parametrize("what", QUESTIONS)
def test_a_step_that_the_run_does_not_have_is_refused(what: str, client: TestClient):
    for name in ("gpt", OTHER_RUN):
        assert ask(client, what, 404, **QUESTIONS[what], run=name, step=99)["error"] == (
            "unknown_step"
        )


def test_a_run_that_is_pruned_or_damaged_meanwhile_is_refused_by_name(
    client: TestClient, shelf: Path
):
    place = shelf / "spare"
    shutil.copytree(shelf / "gpt", place)
    try:
        assert ask(client, "tokens", prompt=PROMPT, run="spare", step=4)["step"] == 4
        shutil.rmtree(place / "checkpoints" / "4")
        assert ask(client, "tokens", 404, prompt=PROMPT, run="spare", step=4)["error"] == (
            "unknown_step"
        )
        for path in (place / "checkpoints" / "2" / "params").rglob("*"):
            if path.is_file():
                path.write_bytes(b"damaged")
        damaged = ask(client, "tokens", 404, prompt=PROMPT, run="spare", step=2)
        assert damaged["error"] == "unknown_step" and str(shelf.parent) not in str(damaged)
        (place / "checkpoints" / "6" / "metadata.json").unlink()
        newest = ask(client, "tokens", 404, prompt=PROMPT, run="spare")
        assert newest["error"] == "unknown_step"
        shutil.rmtree(place / "checkpoints")
        empty = ask(client, "tokens", 404, prompt=PROMPT, run="spare")
        assert "no checkpoint yet" in empty["message"]
        (place / "run.json").write_text("{")
        assert ask(client, "text", 409, prompt=PROMPT, run="spare")["error"] == "run_unusable"
    finally:
        shutil.rmtree(place)


def test_every_checkpoint_of_a_run_is_answered_by_the_programs_of_the_first(
    client: TestClient, shelf: Path
):
    steps = checkpoint.list_steps(shelf / OTHER_RUN)
    assert len(steps) >= 24
    asked = {"attention": {}, "lens": {}, "text": {"max_tokens": 4, "temperature": 0.0}}

    def look(step: int) -> list[Any]:
        return [
            ask(client, what, prompt=PROMPT, run=OTHER_RUN, step=step, **fields)
            for what, fields in asked.items()
        ]

    for step in steps[:2]:  # the second, because a state is placed otherwise than an empty one
        look(step)
    with compile_events() as compiled:
        answers = [look(step) for step in steps]
    assert compiled == []
    seen = {str(attention["fields"]["entropy_nats"]) for attention, *_ in answers}
    assert len(seen) == len(steps)


def test_a_text_and_its_ids_are_one_prompt(client: TestClient, other: Loaded):
    ids = prompt_tokens(other, PROMPT)
    for what in ("tokens", "lens", "attention", "ablate"):
        assert ask(client, what, prompt=ids) == ask(client, what, prompt=PROMPT)
    ids_too = prompt_tokens(other, OTHER)
    assert ask(client, "patch", clean=ids, corrupted=ids_too) == ask(
        client, "patch", clean=PROMPT, corrupted=OTHER
    )


def test_ids_are_taken_as_they_are(client: TestClient, shelf_service: Service):
    bos = shelf_service.current().run.tokenizer.bos_id
    assert ask(client, "tokens", prompt=[bos, 3, bos])["fields"]["tokens"] == [bos, 3, bos]


@pytest.mark.parametrize("what", ["tokens", "text"])
def test_ids_outside_the_vocabulary_are_refused(what: str, client: TestClient):
    size = 19
    assert ask(client, what, prompt=[size - 1])
    refused = ask(client, what, 400, prompt=[0, size])
    assert (refused["error"], refused["field"]) == ("bad_request", "prompt")
    assert f"those below {size}" in refused["message"]
    for prompt in ([], [-1], [2**31], [True], [1.0], ["3"], [[0]], None, 5):
        assert ask(client, what, 422, prompt=prompt)["detail"]


def test_too_many_ids_are_refused(client: TestClient):
    assert ask(client, "tokens", 400, prompt=[0] * 65)["error"] == "context_length_exceeded"
    refused = ask(client, "text", 400, prompt=[0] * 8193)
    assert refused["error"] == "prompt_too_large" and "8193 tokens" in refused["message"]


def test_silenced_parts_are_those_that_ablation_silences(client: TestClient):
    ablated = ask_bytes(client, "ablate", prompt=PROMPT)
    plain = ask_bytes(client, "tokens", prompt=PROMPT)
    head = ask_bytes(client, "silence", prompt=PROMPT, heads=[[1, 2]])
    mlp = ask_bytes(client, "silence", prompt=PROMPT, mlps=[0])
    nothing = ask_bytes(client, "silence", prompt=PROMPT)
    assert head.keys() == plain.keys()
    np.testing.assert_allclose(head["nats"], ablated["without_head_nats"][1, 2], rtol=1e-4)
    np.testing.assert_allclose(mlp["nats"], ablated["without_mlp_nats"][0], rtol=1e-4)
    np.testing.assert_allclose(nothing["nats"], plain["nats"], rtol=1e-4)
    assert not np.allclose(head["nats"], plain["nats"], rtol=1e-3)


def test_several_parts_are_silenced_together_and_named(client: TestClient, shelf_service: Service):
    run = shelf_service.current().run
    edits = inspection.silence(run.model, run.params, heads=[(0, 3), (1, 0)], mlps=[1])
    tokens = prompt_tokens(run, PROMPT)
    expected = inspection.predict(run.model, run.params, tokens, edits=edits, padded_length=16)
    asked = {"heads": [[1, 0], [0, 3], [1, 0]], "mlps": [1, 1]}
    found = ask_bytes(client, "silence", prompt=PROMPT, **asked)
    np.testing.assert_allclose(found["nats"], expected.nats_P, rtol=1e-4)
    told = ask(client, "silence", prompt=PROMPT, **asked)
    assert (told["heads"], told["mlps"]) == ([[0, 3], [1, 0]], [1])


def test_no_choice_of_parts_compiles_anything(client: TestClient):
    ask(client, "silence", prompt=PROMPT)
    with compile_events() as compiled:
        for layer in range(2):
            ask(client, "silence", prompt=PROMPT, mlps=[layer])
            for head in range(4):
                ask(client, "silence", prompt=PROMPT, heads=[[layer, head], [0, 0]], mlps=[0, 1])
    assert compiled == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"heads": [[2, 0]]}, "layers of heads"),
        ({"heads": [[0, 0], [1, 4]]}, "heads"),
        ({"mlps": [2]}, "mlps"),
    ],
)
def test_parts_that_the_model_does_not_have_are_refused(
    change: dict[str, Any], named: str, client: TestClient
):
    refused = ask(client, "silence", 400, prompt=PROMPT, **change)
    assert refused["error"] == "bad_request" and refused["message"].startswith(named)


def test_a_model_without_parts_has_none_to_silence(client: TestClient, service: Service):
    plain = ask(client, "tokens", prompt=PROMPT, run="table")
    assert ask(client, "silence", prompt=PROMPT, run="table")["fields"] == plain["fields"]
    for change in ({"heads": [[0, 0]]}, {"mlps": [0]}):
        assert ask(client, "silence", 400, prompt=PROMPT, run="table", **change)["error"] == (
            "bad_request"
        )
    single = another_model(service, "single_head", drawn=True, d_model=8)
    with TestClient(app_of(single)) as alone:
        assert ask(alone, "silence", prompt=PROMPT, heads=[[0, 0]])["heads"] == [[0, 0]]
        refused = ask(alone, "silence", 400, prompt=PROMPT, mlps=[0])
    assert "mlp_out" in refused["message"]
