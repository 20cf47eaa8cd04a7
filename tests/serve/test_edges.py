"""The edge of the server: keys, hosts, origins and addresses, for every route that there is."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.guard import OPEN_PATHS, is_open
from nanogpt_jax.serve.limits import Buckets, Caps
from nanogpt_jax.serve.policy import Policy, digest, name_client
from nanogpt_jax.serve.service import Service
from tests.serve.live import serving
from tests.serve.surface import GOOD, PROMPT, URL, fill, routes_of

KEY = "correct-horse"
ORIGIN = "https://page.example"
RIGHT = {"authorization": f"Bearer {KEY}"}
# What is no key: nothing, another one, and the right one where it does not belong.
WRONG: dict[str, Mapping[str, str]] = {
    "none": {},
    "empty": {"authorization": "Bearer "},
    "another": {"authorization": "Bearer correct-horse-"},
    "shorter": {"authorization": "Bearer correct-hors"},
    "another scheme": {"authorization": f"Basic {KEY}"},
    "no scheme": {"authorization": KEY},
    "another header": {"x-api-key": KEY, "api-key": KEY, "cookie": f"authorization=Bearer {KEY}"},
    "its digest": {"authorization": f"Bearer {digest(KEY).hex()}"},
    "an inner address": {"x-forwarded-for": "127.0.0.1", "x-original-url": "/health"},
    "another method": {"x-http-method-override": "GET"},
}
FORWARDING = ["x-forwarded-for", "x-real-ip", "x-client-ip", "cf-connecting-ip", "true-client-ip"]
ASKED = {"prompt": PROMPT, "max_tokens": 1, "temperature": 1.0}


def app_of(service: Service, policy: Policy | None = None, **caps: Any) -> FastAPI:
    return build_app(service, Caps(**{"rate": 0.0, **caps}), policy=policy)


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    return app_of(service, Policy(key_digests=frozenset({digest(KEY)})))


@pytest.fixture(scope="module")
def locked(app: FastAPI) -> Iterator[TestClient]:
    """A server with a key."""
    with TestClient(app, base_url=URL, follow_redirects=False) as client:
        yield client


def spellings(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every route as it is, with other methods, and with a slash more."""
    for method, path in routes_of(app):
        plain = fill(path)
        for asked in (method, "OPTIONS", "HEAD", "PUT", "PATCH", "TRACE"):
            yield asked, plain
        for other in (
            f"{plain}/",
            f"{URL}/{plain}",
            f"{plain}?key={KEY}",
            f"{plain};x",
            plain.upper(),
        ):
            yield method, other


def test_the_routes_are_all_here(app: FastAPI):
    paths = {path for _, path in routes_of(app)}
    assert {*OPEN_PATHS, "/docs", "/openapi.json", "/metrics", *app.openapi()["paths"]} <= paths


@pytest.mark.parametrize("kind", WRONG)
def test_without_the_key_nothing_but_the_probes_and_the_inspectors_files_is_open(
    kind: str, app: FastAPI, locked: TestClient, service: Service
):
    steps, open_paths = service.current().engine.stats().steps, set()
    for method, path in spellings(app):
        answer = locked.request(method, path, headers=WRONG[kind])
        if answer.status_code != 401:
            asked = answer.request.url.path
            assert is_open(asked), (method, path, answer.status_code)
            assert answer.status_code in ((404, 405) if asked not in OPEN_PATHS else (200, 405))
            open_paths.add(asked)
        else:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert method == "HEAD" or "invalid_api_key" in answer.text
        assert KEY not in answer.text + str(answer.headers)
    assert set(OPEN_PATHS) <= open_paths
    assert service.current().engine.stats().steps == steps


def test_two_keys_are_none(locked: TestClient):
    headers = [("authorization", "Bearer x"), ("authorization", f"Bearer {KEY}")]
    assert locked.get("/v1/models", headers=headers).status_code == 401


def test_with_the_key_every_route_answers_and_none_fails(app: FastAPI, locked: TestClient):
    for method, path in spellings(app):
        answer = locked.request(method, path, headers=RIGHT)
        allowed = answer.status_code < 500 or (path, answer.status_code) == ("/api/train", 503)
        assert allowed and answer.status_code != 401, (method, path, answer.text)
    for path in ("/v1/completions", "/api/generate", "/api/inspect/tokens"):
        assert locked.post(path, json=GOOD[path], headers=RIGHT).status_code == 200, path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", ""]
)
def test_a_foreign_host_is_refused_on_every_route(host: str, app: FastAPI, locked: TestClient):
    for method, path in routes_of(app):
        headers = {"host": host, **RIGHT}
        assert locked.request(method, fill(path), headers=headers).status_code == 421, path


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://page.example", f"{ORIGIN}.evil.example", f"{ORIGIN}/"],
)
@pytest.mark.parametrize("allowed", [frozenset(), frozenset({ORIGIN})], ids=["none", "one"])
def test_no_route_lets_a_foreign_page_read(
    origin: str, allowed: frozenset[str], service: Service, app: FastAPI
):
    other = app_of(service, Policy(cors_origins=allowed))
    with TestClient(other, base_url=URL) as client:
        for method, path in routes_of(app):
            for asked in ("OPTIONS", method):
                headers = {"origin": origin, "access-control-request-method": method}
                answer = client.request(asked, fill(path), headers=headers)
                told = [name for name in answer.headers if name.startswith("access-control-")]
                assert told == [] and origin not in str(answer.headers), (asked, path)


def test_a_known_page_reads_without_credentials_and_never_by_a_star(service: Service):
    other = app_of(service, Policy(cors_origins=frozenset({ORIGIN})))
    with TestClient(other, base_url=URL) as client:
        for method, path in routes_of(other):
            headers = client.request(method, fill(path), headers={"origin": ORIGIN}).headers
            assert headers["access-control-allow-origin"] == ORIGIN, path
            assert "access-control-allow-credentials" not in headers
            assert "origin" in headers["vary"].lower()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_page_may_send_without_asking_does_nothing(kind: str, service: Service):
    steps = service.current().engine.stats().steps
    with TestClient(app_of(service), base_url=URL) as client:
        for path, body in GOOD.items():
            headers = {"content-type": kind, "origin": "https://evil.example"}
            answer = client.post(path, content=json.dumps(body), headers=headers)
            assert answer.status_code == 415, path
    assert service.current().engine.stats().steps == steps


def test_two_hundred_forged_addresses_gain_nothing(service: Service):
    app = app_of(service, rate=1e-6, burst=3)
    with TestClient(app, base_url=URL, client=("127.0.0.2", 1)) as client:
        statuses = []
        for number in range(200):
            address = f"10.0.{number // 256}.{number % 256}"
            forged = dict.fromkeys(FORWARDING, address) | {"forwarded": f"for={address}"}
            statuses.append(client.post("/api/generate", json=ASKED, headers=forged).status_code)
    assert statuses == [200] * 3 + [429] * 197


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
def test_forged_addresses_gain_nothing_over_a_connection_either(source: str, service: Service):
    """uvicorn would believe them from this machine."""
    with serving(app_of(service, rate=1e-6, burst=2)) as port:
        transport = httpx.HTTPTransport(local_address=source)
        with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            statuses = [
                client.post(
                    "/api/generate", json=ASKED, headers={"x-forwarded-for": f"10.0.0.{number}"}
                ).status_code
                for number in range(10)
            ]
    assert statuses == [200] * 2 + [429] * 8


def test_a_network_of_ipv6_has_one_bucket():
    buckets = Buckets(1e-6, 3)
    names = [name_client(f"2001:db8::{number:x}:1", [], 0) for number in range(1000)]
    assert sum(buckets.take(name) == 0 for name in names) == 3


def test_the_limiter_remembers_a_bounded_number_of_clients():
    buckets = Buckets(1.0, 1)
    for number in range(50_000):
        buckets.take(f"client {number}")
    assert len(buckets) == 10_000


@pytest.mark.slow
def test_a_million_clients_take_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    buckets = Buckets(1.0, 1)
    for number in range(1_000_000):
        buckets.take(f"client {number}")
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(buckets) == 10_000 and grown_kb < 20_000
