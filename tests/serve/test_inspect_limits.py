"""What inspection refuses before the model runs, and who waits for whom."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.desk import Turns
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service
from tests.serve.inspected import BYTES, FREE, OTHER, PROMPT, another_model, app_of, ask, blind


@pytest.fixture(scope="module")
def client(service: Service) -> Any:
    with TestClient(app_of(service)) as client:
        yield client


@pytest.mark.parametrize("headers", [{}, BYTES])
@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("tokens", {"prompt": PROMPT, "alternatives": 20}),
        ("lens", {"prompt": PROMPT}),
        ("attention", {"prompt": PROMPT}),
        ("ablate", {"prompt": PROMPT}),
        ("patch", {"clean": PROMPT, "corrupted": OTHER}),
    ],
)
def test_an_answer_fits_its_bound_and_a_byte_less_is_refused_before_the_model_runs(
    client: TestClient, service: Service, what: str, body: dict[str, Any], headers: dict[str, str]
):
    size = len(client.post(f"/api/inspect/{what}", json=body, headers=headers).content)

    def refused_at(cap: int) -> dict[str, Any] | None:
        with TestClient(
            app_of(blind(service), dataclasses.replace(FREE, max_payload_bytes=cap))
        ) as c:
            answer = c.post(f"/api/inspect/{what}", json=body, headers=headers)
        assert answer.status_code == 413
        return answer.json()

    refused = refused_at(64)
    assert refused is not None and refused["error"] == "payload_too_large"
    assert (refused["max_bytes"], refused["bytes"] >= size) == (64, True)
    again = refused_at(refused["bytes"] - 1)
    assert again is not None and again["bytes"] == refused["bytes"]


def test_attention_of_a_large_model_is_refused_from_its_shape_alone(service: Service):
    """Its numbers would take 576 MiB; those of one head still need all the memory."""
    large = another_model(service, "gpt", n_layer=12, n_head=12, d_model=96, max_seq_len=1024)
    one = {"prompt": "3" * 1024, "layers": [0], "heads": [0]}
    with TestClient(app_of(large)) as client:
        whole = ask(client, "attention", 413, prompt="3" * 1024)
        head = client.post("/api/inspect/attention", json=one, headers=BYTES)
    assert (whole["error"], whole["bytes"] > 12 * 12 * 1024**2 * 4) == ("payload_too_large", True)
    assert (head.status_code, head.json()["error"]) == (413, "inspection_too_large")
    assert head.json()["held_bytes"] > head.json()["max_held_bytes"]


def test_what_would_take_too_long_is_refused_from_its_shape_alone(service: Service):
    deep = another_model(service, "gpt", n_layer=12, n_head=12, d_model=768, max_seq_len=128)
    with TestClient(app_of(deep)) as client:
        refused = ask(client, "patch", 413, clean="3" * 128, corrupted="4" * 128)
    assert refused["error"] == "inspection_too_long"
    assert refused["flops"] > refused["max_flops"]


def test_a_client_has_a_bucket_and_large_questions_empty_it_sooner(service: Service):
    caps = Caps(rate=1e-6, burst=1)  # nothing comes back while this runs
    with TestClient(app_of(service, caps)) as client:
        statuses = []
        for _ in range(12):
            answer = client.post("/api/inspect/tokens", json={"prompt": "3"})
            statuses.append(answer.status_code)
        assert statuses == [200] * 9 + [429] * 3  # the answer's size counts a little too
        assert answer.json()["error"] == "rate_limited"
        assert int(answer.headers["retry-after"]) == answer.json()["retry_after_seconds"] > 0
        other = {"x-client": "two"}
        ok = client.post("/api/inspect/tokens", json={"prompt": "3"}, headers=other)
        assert ok.status_code == 200


def test_a_server_that_drains_begins_no_inspection(service: Service):
    served = service.current()._replace(engine=SimpleNamespace(state="draining"))
    ending = SimpleNamespace(current=lambda: served)
    with TestClient(app_of(ending)) as client:
        assert ask(client, "tokens", 503, prompt=PROMPT)["error"] == "not_serving"


def test_one_inspection_runs_at_a_time_and_few_wait():
    running, most, release = 0, 0, threading.Event()

    def work() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        release.wait(10)
        running -= 1
        return "done"

    async def crowd() -> list[Any]:
        turns = Turns(2)

        async def come() -> str:
            with turns.enter():
                return await turns.run(work)

        first = [asyncio.ensure_future(come()) for _ in range(3)]
        await asyncio.sleep(0.05)
        late = await asyncio.gather(come(), return_exceptions=True)
        release.set()
        return [*late, *await asyncio.gather(*first)]

    refused, *done = asyncio.run(crowd())
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.headers["retry-after"]) == (503, "2")
    assert (done, most) == (["done"] * 3, 1)


def test_a_client_that_left_drops_its_result_and_its_thread_keeps_the_turn():
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        threading.Event().wait(0.05)
        running -= 1

    async def leave_again_and_again() -> None:
        turns = Turns(4)
        for _ in range(5):
            leaving = asyncio.ensure_future(turns.run(work))
            await asyncio.sleep(0.01)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        await turns.run(work)

    asyncio.run(leave_again_and_again())
    assert (running, most) == (0, 1)
