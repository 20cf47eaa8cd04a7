"""/api/train: what may be asked for, and how every refusal looks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.manifest import Manifest, TrainingRequest
from nanogpt_jax.serve.training import RunInProgress, TrainingUnavailable, UnknownCheckpoint

URL = "http://127.0.0.1:8787"
ASKED = {"train_steps": 10, "learning_rate": 0.1, "checkpoint_interval": 5, "eval_interval": 0}
RUN_ID, OTHER = (str(uuid.uuid5(uuid.NAMESPACE_URL, each)) for each in ("one", "other"))
MANIFEST = {
    "run_id": RUN_ID,
    "status": "running",
    "request": {**ASKED, "resume_from": None, "recipe": None},
    "started_at_unix": 1000,
    "ended_at_unix": None,
    "steps_completed": 4,
    "total_steps": 10,
    "training_loss": 2.5,
    "value_loss": None,
    "steps_per_second": 0.4,
    "checkpoints": [],
}


class Runs:
    """Runs of which one is known, and what was asked of them."""

    def __init__(self):
        self.refusal: Exception | None = None
        self.started: list[TrainingRequest] = []
        self.manifest = Manifest.model_validate(MANIFEST)

    def start(self, request: TrainingRequest) -> str:
        if self.refusal:
            raise self.refusal
        self.started.append(request)
        return RUN_ID

    def find(self, run_id: str) -> Manifest | None:
        if self.refusal:
            raise self.refusal
        return self.manifest if run_id == RUN_ID else None

    def stop(self, run_id: str) -> bool:
        return run_id == RUN_ID and self.manifest.status == "running"


@pytest.fixture
def runs() -> Any:
    return Runs()


@pytest.fixture
def client(runs: Any) -> Iterator[TestClient]:
    yield client_of(runs)


def client_of(runs: Any) -> TestClient:
    service: Any = SimpleNamespace()
    return TestClient(build_app(service, Caps(), runs), base_url=URL)


def start(client: TestClient, **changes: Any) -> Any:
    body = {**ASKED, **changes}
    return client.post("/api/train", json={k: v for k, v in body.items() if v is not ...})


def test_a_run_is_admitted_at_once_and_has_a_name(client: TestClient, runs: Any):
    answer = start(client, resume_from="run-x.step-3")
    assert (answer.status_code, answer.json()) == (202, {"run_id": RUN_ID})
    assert runs.started == [TrainingRequest(**ASKED, resume_from="run-x.step-3")]


@pytest.mark.parametrize(
    ("name", "value", "most"),
    [
        *(("train_steps", value, 100_000) for value in (0, -1, 100_001, 10**400)),
        *(("learning_rate", value, 1.0) for value in (0, 0.0, -0.1, 1.0000001, 1e300)),
    ],
)
def test_numbers_out_of_range_are_refused_with_the_most_that_is_allowed(
    name: str, value: float, most: float, client: TestClient, runs: Any
):
    answer = start(client, **{name: value})
    assert answer.status_code == 400
    found = answer.json()
    assert found["error"] == f"{name}_out_of_range"
    assert (found["max_allowed"], found["requested"]) == (most, value)
    assert runs.started == []


def test_exactly_the_most_that_is_allowed_is_accepted(client: TestClient):
    assert start(client, train_steps=100_000, learning_rate=1.0).status_code == 202
    assert start(client, train_steps=1, learning_rate=1).status_code == 202


@pytest.mark.parametrize("name", list(ASKED))
def test_other_types_missing_and_unknown_fields_are_refused(
    name: str, client: TestClient, runs: Any
):
    values = [..., None, True, "5", [], {}, *([] if name == "learning_rate" else [1.5])]
    for value in values:
        assert start(client, **{name: value}).status_code == 422, value
    interval = name.endswith("interval")
    assert not interval or start(client, **{name: -1}).status_code == 422
    for changes in ({"resume_from": True}, {"resume_from": 1.5}, {"workdir": "/tmp"}):
        assert start(client, **changes).status_code == 422
    assert runs.started == []


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"-Infinity"])
def test_no_number_that_is_none_is_a_rate(number: bytes, client: TestClient, runs: Any):
    body = b'{"train_steps":1,"checkpoint_interval":0,"eval_interval":0,"learning_rate":%s}'
    headers = {"content-type": "application/json"}
    answer = client.post("/api/train", content=body % number, headers=headers)
    assert answer.status_code in (400, 422) and "error" in answer.json()
    assert runs.started == []


@pytest.mark.parametrize(
    ("refusal", "status", "fields"),
    [
        (RunInProgress(OTHER), 409, {"error": "run_in_progress", "run_id": OTHER}),
        (
            TrainingUnavailable("no room"),
            503,
            {"error": "training_unavailable", "message": "no room"},
        ),
        (UnknownCheckpoint("none"), 400, {"error": "bad_request", "message": "none"}),
        (OSError(28, "No space left", "/secret/path"), 500, {"error": "internal"}),
    ],
)
def test_every_refusal_has_its_status_and_tag(
    refusal: Exception, status: int, fields: dict[str, str], client: TestClient, runs: Any
):
    runs.refusal = refusal
    answer = start(client)
    assert answer.status_code == status and fields.items() <= answer.json().items()
    assert "secret" not in answer.text
    assert answer.headers.get("retry-after") == ("30" if status in (409, 503) else None)


def test_a_status_is_the_manifest_and_the_time_that_is_left(client: TestClient, runs: Any):
    for path in (f"/api/train/{RUN_ID}", f"/api/train/{RUN_ID}/status"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, {**MANIFEST, "eta_seconds": 15})
    for changes in ({"status": "completed"}, {"steps_per_second": None}, {"steps_per_second": 0.0}):
        runs.manifest = Manifest.model_validate({**MANIFEST, **changes})
        assert client.get(f"/api/train/{RUN_ID}").json()["eta_seconds"] is None
    runs.manifest = Manifest.model_validate({**MANIFEST, "status": "failed", "error": "why"})
    assert client.get(f"/api/train/{RUN_ID}").json()["error"] == "why"


@pytest.mark.parametrize(
    "name", [OTHER, "x", "..", f"{{{RUN_ID}}}", RUN_ID.replace("-", ""), "%2e%2e", "a" * 2000]
)
def test_a_run_that_is_not_known_is_not_found_and_its_name_only_repeated_if_it_is_one(
    name: str, client: TestClient
):
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"/api/train/{name}")
        assert answer.status_code in (404, 405), answer.text  # `..` is another path
        if answer.json()["error"] == "run_not_found":
            assert answer.json()["run_id"] == (OTHER if name == OTHER else None)
    assert client.get(f"/api/train/{OTHER}/status").json()["error"] == "run_not_found"


def test_a_manifest_that_cannot_be_read_is_a_fault_of_the_server(client: TestClient, runs: Any):
    runs.refusal = ValueError("text of the file")
    answer = client.get(f"/api/train/{RUN_ID}")
    assert (answer.status_code, answer.json()["error"]) == (500, "internal")
    assert "text of the file" not in answer.text


def test_a_run_is_stopped_as_often_as_it_is_asked_and_then_not_found(client: TestClient, runs: Any):
    for _ in range(3):
        answer = client.delete(f"/api/train/{RUN_ID}")
        assert (answer.status_code, answer.content) == (202, b"")
    runs.manifest = Manifest.model_validate({**MANIFEST, "status": "interrupted"})
    answer = client.delete(f"/api/train/{RUN_ID}")
    assert (answer.status_code, answer.json()["error"]) == (404, "run_not_found")


def test_a_server_that_does_not_train_says_so():
    client = client_of(None)
    answer = start(client)
    assert (answer.status_code, answer.json()["error"]) == (503, "training_unavailable")
    assert start(client, train_steps=0).status_code == 400  # ranges come first
    assert client.get(f"/api/train/{RUN_ID}").status_code == 404
    assert client.delete(f"/api/train/{RUN_ID}").status_code == 404


def test_status_and_stop_are_not_limited_in_rate(client: TestClient):
    answers = [client.get(f"/api/train/{RUN_ID}").status_code for _ in range(30)]
    assert {*answers} == {200}


def test_another_method_is_refused_with_those_there_are(client: TestClient):
    answer = client.put(f"/api/train/{RUN_ID}")
    assert answer.status_code == 405 and answer.headers["allow"] == "DELETE, GET"


def test_the_manifest_of_a_run_lies_where_no_checkpoint_does(tmp_path: Path):
    manifest = Manifest.model_validate(MANIFEST)
    manifest.save(tmp_path)
    [path] = (tmp_path / "checkpoints").rglob("*.json")
    assert path == tmp_path / "checkpoints" / "runs" / f"run-{RUN_ID}.json"
    assert Manifest.model_validate_json(path.read_text()) == manifest
