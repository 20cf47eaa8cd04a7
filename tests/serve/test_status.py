"""Probes tell the truth about the engine."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace
from typing import get_args

import fastapi
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nanogpt_jax.serve.api import status
from nanogpt_jax.serve.engine import Engine, State
from nanogpt_jax.serve.metrics import Metrics
from nanogpt_jax.serve.service import Service
from nanogpt_jax.slots import Slots
from tests.serve.asking import ask


def app_with(engine: object) -> fastapi.FastAPI:
    """The three routes over an engine."""
    app = fastapi.FastAPI()
    app.include_router(status.router)
    served = SimpleNamespace(engine=engine)
    app.state.service = SimpleNamespace(current=lambda: served)
    return app


@pytest.mark.parametrize("state", get_args(State))
def test_only_a_ready_engine_is_ready_and_the_process_is_alive_in_any_state(state: State):
    app = app_with(SimpleNamespace(state=state))
    probed = ask(app, "/ready")
    assert probed.json() == {"state": state}
    assert probed.status == (200 if state == "ready" else 503)
    assert ("retry-after" in probed.headers) == (state != "ready")
    alive = ask(app, "/health")
    assert (alive.status, alive.json()) == (200, {"status": "ok"})


class Broken(Slots):
    """Slots that fail before they have made a token."""

    def __init__(self):
        """Without a model."""

    def warm_up(self) -> None:
        raise MemoryError


def test_an_engine_that_fails_to_begin_is_never_ready(monkeypatch: pytest.MonkeyPatch):
    failures: queue.SimpleQueue[threading.ExceptHookArgs] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", failures.put)
    engine = Engine(Broken())
    app = app_with(engine)
    assert ask(app, "/ready").json() == {"state": "loading"}
    engine.start()
    assert failures.get(timeout=5).exc_type is MemoryError
    probed = ask(app, "/ready")
    assert (probed.status, probed.json()) == (503, {"state": "dead"})
    assert ask(app, "/health").status == 200


def test_metrics_of_a_real_engine_can_be_read(service: Service):
    app = app_with(service.current().engine)
    app.state.metrics = Metrics(lambda: service.current().engine)
    answered = ask(app, "/metrics")
    assert answered.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answered.body.decode())
    found = {sample.name: sample.value for family in families for sample in family.samples}
    assert (found["nanogpt_jax_ready"], found["nanogpt_jax_free_slots"]) == (1, 4)
