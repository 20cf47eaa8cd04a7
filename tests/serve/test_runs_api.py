"""GET /api/runs, /api/run, /api/vocabulary and /api/history, over a shelf of trained runs."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nanogpt_jax import __version__, checkpoint
from nanogpt_jax.checkpoint import lock_run
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.prompts import can_chat
from nanogpt_jax.serve.service import Service
from tests.runs import small_run
from tests.serve.surface import URL

NO_RUNS = ["../gpt", "/gpt", "seeds/../gpt", "gpt/", "seeds", "another", "", "a\0b", "%2e%2e/gpt"]


@pytest.fixture(scope="module")
def client(shelf_service: Service) -> Iterator[TestClient]:
    app = build_app(shelf_service, Caps(rate=0, max_tokens=77, max_prompt_bytes=99))
    with TestClient(app, base_url=URL) as client:
        yield client


@pytest.fixture
def spare(shelf: Path) -> Iterator[Path]:
    """A run on the shelf that may be damaged."""
    place = shelf / "spare"
    shutil.copytree(shelf / "gpt", place)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def ask(client: TestClient, path: str, expected: int = 200, **params: Any) -> dict[str, Any]:
    answer = client.get(f"/api/{path}", params=params)
    assert answer.status_code == expected, answer.text
    return answer.json()


def runs_of(client: TestClient) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in ask(client, "runs")["runs"]}


def test_the_runs_of_the_shelf_are_listed_with_what_they_are(client: TestClient):
    listed = ask(client, "runs")
    assert listed["served"] == "gpt"
    assert [run["name"] for run in listed["runs"]] == ["gpt", "seeds/one", "table"]
    gpt, seed, table = listed["runs"]
    shape = {name: gpt[name] for name in ("n_layer", "n_head", "n_kv_head", "d_model", "context")}
    assert shape == {"n_layer": 2, "n_head": 4, "n_kv_head": 2, "d_model": 32, "context": 64}
    assert (gpt["model"], table["model"]) == ("gpt", "embedding")
    assert gpt["steps"] == [2, 4, 6]
    assert (gpt["served_step"], seed["served_step"]) == (6, None)
    assert (gpt["total_steps"], seed["total_steps"]) == (6, 24)
    assert gpt["corpus"] == "text:tables.txt" and gpt["tokenizer"] == "char"
    assert gpt["corpus_fingerprint"] == seed["corpus_fingerprint"]
    assert gpt["tokenizer_sha256"] == table["tokenizer_sha256"]


def test_the_validation_loss_is_that_of_the_newest_state_that_was_measured(
    client: TestClient, shelf: Path
):
    for name, run in runs_of(client).items():
        sidecars = checkpoint.read_sidecars(shelf / name)
        measured = [one.validation_loss for one in sidecars if one.validation_loss is not None]
        assert run["validation_loss"] == measured[-1]
        assert run["created"] == sidecars[-1].created


def test_a_run_is_shown_with_its_checkpoints_and_what_can_be_done_with_it(
    client: TestClient, shelf: Path
):
    run = ask(client, "run")
    assert run == ask(client, "run", run="gpt")
    assert {name: run[name] for name in runs_of(client)["gpt"]} == runs_of(client)["gpt"]
    assert [one["step"] for one in run["checkpoints"]] == run["steps"] == [2, 4, 6]
    assert (run["running_text"], run["can_chat"], run["entropy_nats"]) == (True, False, None)
    assert run["sites"] == ["residual", "attention", "head_out", "mlp_out"]
    assert (run["max_tokens"], run["max_prompt_bytes"]) == (77, 99)
    assert run["version"] == __version__
    assert ask(client, "run", run="table")["sites"] == []
    checkpoints = ask(client, "checkpoints")
    assert run["checkpoints"] == checkpoints["checkpoints"]


def test_the_opening_is_what_the_record_says(client: TestClient, spare: Path):
    record = json.loads((spare / "run.json").read_text())
    record["corpus"]["opening"] = "1 times 1 is"
    (spare / "run.json").write_text(json.dumps(record))
    assert ask(client, "run", run="spare")["opening"] == "1 times 1 is"
    del record["corpus"]["opening"]
    (spare / "run.json").write_text(json.dumps(record))
    assert ask(client, "run", run="spare")["opening"] == ""


def test_the_entropy_is_in_the_unit_of_the_loss(client: TestClient, shelf: Path):
    """A text of characters: what is known per character is known per token, BOS included."""
    place = shelf / "known"
    changes = {"data.source": "synthetic:markov", "train.steps": 3, "checkpoint.every_steps": 3}
    small_run(place, changes)
    run = ask(client, "run", run="known")
    measured = read_metrics(place / "metrics.jsonl")[3]
    shutil.rmtree(place)
    assert run["entropy_nats"] == pytest.approx(measured["val/loss"] - measured["val/excess_nats"])
    assert 0 < run["entropy_nats"] < run["validation_loss"]


@pytest.mark.parametrize(
    ("bos", "form", "fingerprint", "special", "expected"),
    [
        (True, "chat", "abc", "<|assistant_end|>", True),  # tuned
        (True, "packed", "abc", "<|assistant_end|>", False),  # made to be tuned later
        (True, "packed", "unknown", "<|assistant_end|>", True),  # adopted, and it knows the words
        (True, "packed", "unknown", "<|bos|>", False),
        (False, "packed", "abc", "<|bos|>", True),  # plain dialogues
    ],
)
def test_a_run_can_chat_if_it_was_taught_to(
    bos: bool, form: str, fingerprint: str, special: str, expected: bool
):
    run: Any = SimpleNamespace(
        plan=SimpleNamespace(data=SimpleNamespace(bos=bos, format=form)),
        record=SimpleNamespace(corpus={"fingerprint": fingerprint}),
        tokenizer=SimpleNamespace(special_ids={special: 0}),
    )
    assert can_chat(run) is expected


def test_a_run_in_training_is_known_by_its_lock_and_not_disturbed(client: TestClient, spare: Path):
    assert runs_of(client)["spare"]["training"] is False
    with lock_run(spare):
        assert runs_of(client)["spare"]["training"] is True
        assert ask(client, "run", run="spare")["training"] is True
    assert runs_of(client)["spare"]["training"] is False


def test_who_is_told_that_nobody_trains_any_more_has_the_last_step(
    client: TestClient, spare: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run may save its last step and end between two looks at its directory."""
    (last,) = spare.rglob("6")
    aside = spare / "aside"
    with contextlib.ExitStack() as trainer:
        trainer.enter_context(lock_run(spare))
        last.rename(aside)
        looked = checkpoint.list_steps

        def end(workdir: Path) -> list[int]:
            found = looked(workdir)
            if workdir == spare and aside.exists():
                aside.rename(last)
                trainer.close()
            return found

        monkeypatch.setattr(checkpoint, "list_steps", end)
        first, second = (ask(client, "run", run="spare") for _ in range(2))
    assert first["steps"] == [2, 4] and first["training"] is True
    assert second["steps"] == [2, 4, 6] and second["training"] is False


def test_a_run_appears_when_it_begins_and_is_gone_when_it_is_removed(
    client: TestClient, spare: Path
):
    shutil.rmtree(spare / "checkpoints")
    begun = runs_of(client)["spare"]
    assert (begun["steps"], begun["validation_loss"], begun["created"]) == ([], None, None)
    shutil.rmtree(spare)
    assert "spare" not in runs_of(client)
    assert ask(client, "run", 404, run="spare")["error"] == "run_not_found"


def test_a_checkpoint_that_was_pruned_is_listed_no_more(client: TestClient, spare: Path):
    shutil.rmtree(spare / "checkpoints" / "4")
    run = ask(client, "run", run="spare")
    assert run["steps"] == [one["step"] for one in run["checkpoints"]] == [2, 6]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"version": 1}', '{"version": 2}', "[" * 10_000, "\udcff"]
)
def test_a_damaged_record_is_left_out_and_refused(text: str, client: TestClient, spare: Path):
    (spare / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert set(runs_of(client)) == {"gpt", "seeds/one", "table"}
    for path in ("run", "vocabulary"):
        refused = ask(client, path, 409, run="spare")
        assert refused["error"] == "run_unusable" and str(spare.parent) not in str(refused)


def test_a_config_of_another_version_is_listed_and_refused(client: TestClient, spare: Path):
    record = json.loads((spare / "run.json").read_text())
    record["config"] = {"train": {"steps": "many"}}
    (spare / "run.json").write_text(json.dumps(record))
    assert runs_of(client)["spare"]["total_steps"] is None
    assert ask(client, "run", 409, run="spare")["error"] == "run_unusable"


def test_a_damaged_tokenizer_is_refused(client: TestClient, spare: Path):
    (spare / "tokenizer.json").write_text("{}")
    assert ask(client, "vocabulary", 409, run="spare")["error"] == "run_unusable"


def test_a_damaged_sidecar_hides_its_checkpoint_alone(client: TestClient, spare: Path):
    (spare / "checkpoints" / "6" / "metadata.json").write_text("{}")
    run = ask(client, "run", run="spare")
    assert [one["step"] for one in run["checkpoints"]] == [2, 4]
    assert run["created"] == checkpoint.read_sidecar(spare, 4).created


@pytest.mark.parametrize("path", ["run", "vocabulary", "history"])
@pytest.mark.parametrize("name", NO_RUNS)
def test_no_other_name_is_a_run(path: str, name: str, client: TestClient):
    refused = ask(client, path, 404, run=name)
    assert refused["error"] == "run_not_found"
    assert "/api/runs" in refused["message"] and "another" not in refused["message"]


@pytest.mark.parametrize("path", ["run", "vocabulary", "history"])
def test_a_link_out_of_the_shelf_is_no_run(
    path: str, client: TestClient, shelf: Path, workdir: Path
):
    link = shelf / "linked"
    link.symlink_to(workdir)
    try:
        assert ask(client, path, 404, run="linked")["error"] == "run_not_found"
        assert "linked" not in runs_of(client)
    finally:
        link.unlink()


def test_what_is_served_is_on_the_shelf_wherever_it_lies(
    shelf: Path, shelf_service: Service, workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    served = shelf_service.current()._replace(workdir=workdir)
    monkeypatch.setattr(shelf_service, "_served", served)
    with TestClient(build_app(shelf_service, Caps(rate=0)), base_url=URL) as client:
        listed = ask(client, "runs")
        assert listed["served"] == "run"
        assert [run["name"] for run in listed["runs"]] == ["gpt", "run", "seeds/one", "table"]
        assert ask(client, "run", run="run")["served_step"] == 6
        assert ask(client, "history", run="run") == ask(client, "history")


def test_a_vocabulary_has_the_bytes_of_every_token(client: TestClient, shelf_service: Service):
    vocabulary = ask(client, "vocabulary", run="seeds/one")
    tokenizer = shelf_service.current().run.tokenizer
    assert [bytes.fromhex(token) for token in vocabulary["bytes"]] == list(tokenizer.token_bytes)
    assert vocabulary["special"] == {str(tokenizer.bos_id): "<|bos|>"}


def test_a_vocabulary_that_is_known_is_not_sent_again(client: TestClient):
    first = client.get("/api/vocabulary")
    sha256 = ask(client, "run")["tokenizer_sha256"]
    assert first.headers["etag"] == f'"{sha256}"'
    assert first.headers["cache-control"] == "private, no-cache"
    for known in (f'"{sha256}"', f'"other", W/"{sha256}"'):
        again = client.get("/api/vocabulary", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    for other in ('"other"', sha256, ""):
        again = client.get("/api/vocabulary", headers={"if-none-match": other})
        assert (again.status_code, again.content) == (200, first.content)


def test_the_curves_are_those_of_the_log(client: TestClient, shelf: Path):
    told = ask(client, "history", run="seeds/one")
    measured = read_metrics(shelf / "seeds" / "one" / "metrics.jsonl")
    assert {"train/loss", "val/loss", "train/lr"} <= told["series"].keys()
    for name, curve in told["series"].items():
        expected = {step: values[name] for step, values in measured.items() if name in values}
        assert curve["steps"] == list(expected)
        assert curve["values"] == [v if math.isfinite(v) else None for v in expected.values()]
    assert ask(client, "history", run="seeds/one", after=told["next"])["series"] == {}


@pytest.mark.parametrize("after", ["-1", "x", "1.5", str(2**53), "9" * 5000, "", "1e3"])
def test_a_place_in_the_log_is_a_number(after: str, client: TestClient):
    assert ask(client, "history", 422, after=after)["field"] == "after"


def test_a_name_that_is_too_long_is_refused(client: TestClient):
    assert ask(client, "run", 422, run="x" * 513)["error"] == "invalid_request"


def test_no_answer_has_a_path(client: TestClient, shelf: Path):
    for path in ("runs", "run", "history", "vocabulary"):
        assert str(shelf.parent) not in client.get(f"/api/{path}").text
