"""No answer, header or line of the log tells where this machine keeps what, or who it is.

Every path is walked with names of files outside, every class of error is provoked, and all that
came out is searched. Secrets are put into the environment and beside the run, to be found if they
can be.
"""

from __future__ import annotations

import itertools
import logging
import socket
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from absl import logging as absl_logging
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.engine import NotServing, QueueFull
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.policy import Policy, digest
from nanogpt_jax.serve.service import Service
from nanogpt_jax.serve.training import TrainingRuns
from tests.serve.asking import HOST, ask
from tests.serve.discretion import (
    CANARY,
    KEY,
    LINE,
    NAMES,
    PLACES,
    TELLTALE,
    Lines,
    require_discreet,
)
from tests.serve.hostile_values import JSON, TRAVERSALS, post
from tests.serve.surface import GOOD, URL, fill, routes_of

RUNS = ["/api/train/{}", "/api/train/{}/status"]
ROUTES = ["/{}", "/docs/{}", "/assets/{}", "/v1/models/{}", *RUNS]
FORGED = [
    "x\r\n2026-01-01 00:00:00 INFO forged",
    "x\n2026-01-01 00:00:00 ERROR forged",
    "\x1b[2K\x1b[1A forged",
    "\x85forged",
    "\u2028forged",
    "<img src=x onerror=forged>",
]


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines, logger = Lines(), absl_logging.get_absl_logger()
    before = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines.lines
    logger.removeHandler(lines)
    logger.setLevel(before)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch, workdir: Path) -> Iterator[None]:
    """What is nobody's business, where a server could come across it."""
    for name in ("NANOGPT_JAX_API_KEYS", "HF_TOKEN", "USER", "LOGNAME", "HOSTNAME"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setattr(socket, "gethostname", lambda: CANARY)
    outside = [folder / "secret.txt" for folder in (workdir, workdir.parent)]
    for path in outside:
        path.write_text(CANARY)
    yield
    for path in outside:
        path.unlink()


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    return build_app(service, Caps(rate=0), TrainingRuns(service, launch=_never))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=URL) as client:
        yield client


def _never(*_: Any) -> Any:
    raise AssertionError("a run was started")


def test_what_would_tell_is_found():
    tells = ["at /home/x/run", "<object at 0x7f3a9100>", "root:x:0:0", "x.py:17", "Traceback"]
    for told in [*tells, CANARY, 'File "x"', *NAMES, *(f"{place}/x" for place in PLACES)]:
        assert TELLTALE.search(told), told
    for told in ["/api/info", "/v1/models", "https://cdn.jsdelivr.net/npm/x/", "application/json"]:
        assert not TELLTALE.search(told), told


@pytest.mark.parametrize("route", ROUTES)
def test_no_path_leads_outside(route: str, app: FastAPI, log: list[str]):
    for payload in TRAVERSALS:
        for text in {payload, urllib.parse.unquote(payload)}:
            for method in ("GET", "DELETE") if route == "/api/train/{}" else ("GET",):
                answer = ask(app, route.format(text), method=method, headers=[HOST])
                assert answer.status in (404, 405), (text, answer.status)
                require_discreet(answer)
                assert "passwd" not in answer.body.decode()
    assert len(TRAVERSALS) >= 200
    assert all(LINE.fullmatch(line) for line in log)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/completions", "model"),
        ("/api/train", "resume_from"),
        ("/v1/chat/completions", "model"),
    ],
)
def test_no_name_leads_outside(path: str, field: str, client: TestClient, log: list[str]):
    for payload in TRAVERSALS:
        answer = post(client, path, {field: payload})
        assert 400 <= answer.status_code < 500, payload
        require_discreet(answer, *log)
        assert "passwd" not in answer.text
        log.clear()


def test_every_answer_of_every_route_is_discreet(app: FastAPI, client: TestClient, log: list[str]):
    for method, path in routes_of(app):
        require_discreet(client.request(method, fill(path)))
    for path in ("/v1/completions", "/api/generate", "/api/inspect/tokens"):
        require_discreet(client.post(path, json=GOOD[path]))
    require_discreet(client.get("/metrics"), *log)


def provoke(service: Service, client: TestClient) -> Iterator[Any]:
    """An answer of every class of error that a client can bring about."""
    yield client.post("/api/generate", content=b"{", headers=JSON)  # 400
    yield client.get("/v1/models/x")  # 404
    yield client.get(f"/api/train/{'0' * 8}-0000-4000-8000-{'0' * 12}")
    yield client.put("/api/generate")  # 405
    yield client.post("/api/inspect/tokens", json={"prompt": "3"}, headers={"accept": "text/html"})
    yield client.post("/api/generate", content=b" " * 2**20, headers=JSON)  # 413
    yield client.post("/api/generate", content=b"prompt=3")  # 415
    yield client.get("/health", headers={"host": f"{CANARY}.example"})  # 421
    yield client.post("/api/generate", json={CANARY: CANARY})  # 422
    yield client.get("/health", headers={"x": "x" * 40_000})  # 431
    locked = build_app(service, Caps(rate=0), policy=Policy(key_digests=frozenset({digest(KEY)})))
    yield TestClient(locked, base_url=URL).get("/v1/models")  # 401
    greedy = TestClient(build_app(service, Caps(rate=1e-6, burst=1)), base_url=URL)
    for path in ("/api/generate", "/v1/completions", "/api/inspect/tokens"):
        answers = [greedy.post(path, json=GOOD[path]) for _ in range(12)]  # a look counts a tenth
        yield answers[-1]  # 429
    yield TestClient(build_app(service, Caps(rate=0)), base_url=URL).post(
        "/api/train", json=GOOD["/api/train"]
    )  # 503


def test_every_refusal_is_discreet(service: Service, client: TestClient, log: list[str]):
    statuses = set()
    for answer in provoke(service, client):
        require_discreet(answer)
        statuses.add(answer.status_code)
    assert statuses == {400, 401, 404, 405, 406, 413, 415, 421, 422, 429, 431, 503}
    assert log and not any(TELLTALE.search(line) for line in log)


TROUBLE = f"/home/{CANARY}/run: no such file, see /etc/passwd"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(2, TROUBLE, TROUBLE), 500),
        (KeyError(TROUBLE), 500),
        (RecursionError(TROUBLE), 500),
        (MemoryError(TROUBLE), 500),
        (NoCheckpoint(TROUBLE), 500),
        (QueueFull(3), 503),
        (NotServing("the engine is draining"), 503),
    ],
    ids=lambda value: type(value).__name__,
)
def test_faults_tell_a_number_and_the_log_tells_the_place(
    error: Exception,
    status: int,
    service: Service,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(service.current().engine, "submit", fail)
    monkeypatch.setattr(service, "checkpoints", fail)
    monkeypatch.setattr(service, "params_at", fail)
    runs: Any = SimpleNamespace(start=fail, find=fail, stop=fail)
    run = f"/api/train/{uuid.uuid4()}"
    with TestClient(build_app(service, Caps(rate=0), runs), base_url=URL) as client:
        told = [client.post(path, json=GOOD[path]) for path in ("/api/generate", "/v1/completions")]
        told += [
            client.post("/api/inspect/tokens", json={"prompt": "3", "step": 4}),
            client.get("/api/checkpoints"),
            client.post("/api/train", json=GOOD["/api/train"]),
            client.get(run),
            client.delete(run),
        ]
    assert {answer.status_code for answer in told[:2]} == {status}
    for answer in told:
        assert answer.status_code >= 400
        require_discreet(answer)
    assert log and not any(TELLTALE.search(line) for line in log)
    assert all(LINE.fullmatch(line) for line in log)
    if status == 500:
        assert any(type(error).__name__ in line for line in log)


@pytest.mark.parametrize("text", FORGED)
def test_what_a_client_writes_never_begins_a_line_of_the_log(
    text: str, app: FastAPI, client: TestClient, log: list[str]
):
    for path in GOOD:
        for field in ("prompt", "model", "resume_from", "clean", "user", text):
            answer = post(client, path, {field: text})
            assert "forged" not in answer.text
    for route, method in itertools.product(ROUTES, ("GET", f"GET{text}")):
        header = ("user-agent", text.encode("utf-8").decode("latin-1"))
        answer = ask(app, route.format(text), method=method, headers=[HOST, header])
        assert answer.status in (404, 405)
        assert "forged" not in answer.body.decode()
    assert len(log) >= 50
    for line in log:
        assert LINE.fullmatch(line), line
        assert line[20:].startswith("INFO") and " forged" not in line[:40]


def test_ten_thousand_ranges_are_no_work(app: FastAPI, client: TestClient):
    for count, expected in ((7_000, {200, 404}), (10_000, {431})):
        ranges = "bytes=" + ",".join(["0-1"] * count)
        for method, path in routes_of(app):
            if method != "GET" or "{" in path:
                continue
            started = time.process_time()
            answer = client.get(path, headers={"range": ranges})
            assert answer.status_code in expected, path
            assert time.process_time() - started < 0.25
            assert "content-range" not in answer.headers
