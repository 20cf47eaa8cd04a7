"""Probes say what is so, and whoever is served hears the end: when all is well, and when not.

Here a real engine is behind a real port, and is made to fail; the command itself is in
test_command.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax.errors import ExitCode
from nanogpt_jax.serve import journal
from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.connection import Patience
from nanogpt_jax.serve.engine import Engine, NotServing
from nanogpt_jax.serve.lifecycle import Server, bind
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service
from nanogpt_jax.serve.training import TrainingRuns
from nanogpt_jax.slots import Slots
from tests.serve.live import application, serving
from tests.serve.process import PROMPT, REPOSITORY, command

WAIT_SECONDS = 60.0
ENDLESS = 1_000_000
# /api/generate slides its window, so that it has no end of its own; /v1 ends with the context.
CAPS = Caps(rate=0, max_tokens=ENDLESS)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ask(port: int, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as asking:
        headers = {"content-type": "application/json"}
        asking.request("POST" if body else "GET", path, body and json.dumps(body), headers)
        answer = asking.getresponse()
        return answer.status, json.loads(answer.read())


def generate(port: int, max_tokens: int = ENDLESS) -> tuple[int, Any]:
    """What /api/generate answers."""
    asked = {"prompt": PROMPT, "max_tokens": max_tokens, "temperature": 1.0}
    return ask(port, "/api/generate", asked)


def stream(port: int, max_tokens: int = 40) -> list[str]:
    """The events of a whole stream, without its framing."""
    form = {"model": "run", "prompt": PROMPT, "max_tokens": max_tokens, "temperature": 0}
    form["stream"] = True
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as asking:
        headers = {"content-type": "application/json"}
        asking.request("POST", "/v1/completions", json.dumps(form), headers)
        with asking.getresponse() as answer:
            assert answer.status == 200
            return answer.read().decode().removeprefix("data: ").strip().split("\n\ndata: ")


def reason_of(events: list[str]) -> str:
    """Why a stream ended, which it says before its last event."""
    assert events[-1] == "[DONE]"
    reasons = [json.loads(event)["choices"][0]["finish_reason"] for event in events[:-1]]
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    return reasons[-1]


@contextlib.contextmanager
def opened(workdir: Path, slots: int = 4) -> Iterator[tuple[Service, int]]:
    """A server of its own, which may load for a while."""
    service = Service(workdir, slots=slots)
    training = TrainingRuns(service)
    try:
        with serving(build_app(service, CAPS, training)) as port:
            yield service, port
    finally:
        service.current().engine.close()


class Gate:
    """Holds up every step of the model while it is closed."""

    service: Service
    port: int

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.open = threading.Event()
        self.open.set()
        self.stepped = threading.Event()
        step = Slots.step

        def wait_and_step(slots: Slots) -> Any:
            self.stepped.set()
            self.open.wait(WAIT_SECONDS)
            return step(slots)

        monkeypatch.setattr(Slots, "step", wait_and_step)

    @property
    def engine(self) -> Engine:
        return self.service.current().engine

    def close(self) -> None:
        """Blocks the next step, or the one that comes with the next request."""
        self.open.clear()
        self.stepped.clear()


@pytest.fixture
def held(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A server whose steps can be held up, ready."""
    gate = Gate(monkeypatch)
    with opened(workdir) as (gate.service, gate.port):
        until(lambda: gate.engine.state == "ready")
        yield gate
        gate.open.set()


def test_a_server_is_ready_when_the_model_has_made_a_token_and_not_before(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[object] = []
    loading = threading.Event()
    warm_up, begin = Slots.warm_up, Slots.begin

    def wait_and_warm_up(slots: Slots) -> None:
        loading.wait(WAIT_SECONDS)
        warm_up(slots)

    def begin_and_note(slots: Slots, request: Any) -> Any:
        slot, progress = begin(slots, request)
        made.extend(progress.drawn)
        return slot, progress

    monkeypatch.setattr(Slots, "warm_up", wait_and_warm_up)
    monkeypatch.setattr(Slots, "begin", begin_and_note)
    with opened(workdir) as (_, port):
        for _ in range(5):
            assert ask(port, "/ready") == (503, {"state": "loading"})
            assert ask(port, "/health")[0] == 200
            assert generate(port)[1]["error"] == "not_serving"
        assert made == []
        loading.set()
        until(lambda: ask(port, "/ready") == (200, {"state": "ready"}))
        assert made


def test_a_dead_engine_is_not_ready_and_everybody_hears_of_it(
    held: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(threading, "excepthook", journal.log_thread)
    held.close()

    def fail(slots: Slots) -> Any:
        held.open.wait(WAIT_SECONDS)
        raise RuntimeError("a prompt")

    monkeypatch.setattr(Slots, "step", fail)
    with ThreadPoolExecutor(4) as pool, caplog.at_level(logging.ERROR):
        streams = [pool.submit(stream, held.port) for _ in range(3)]
        whole = pool.submit(generate, held.port)
        until(lambda: sum(held.engine.stats()[:2]) == 4)  # two of them wait
        held.open.set()
        held.engine._thread.join(WAIT_SECONDS)  # it writes to the log last
        assert ask(held.port, "/ready") == (503, {"state": "dead"})
        assert ask(held.port, "/health")[0] == 200
        for each in streams:
            assert json.loads(each.result()[-1])["error"]["code"] == "generation_failed"
        status, told = whole.result()
        assert (status, told["error"]) == (500, "generation_failed")
    assert generate(held.port)[1]["error"] == "not_serving"
    assert caplog.messages[0].startswith("the thread engine ended: RuntimeError < ")
    assert "a prompt" not in caplog.text


def test_a_step_that_blocks_is_seen_from_outside_and_forgotten_when_it_ends(held: Gate):
    held.engine._stall_seconds = 0.2
    held.close()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(stream, held.port)
        until(lambda: ask(held.port, "/ready") == (503, {"state": "stalled"}))
        assert ask(held.port, "/health")[0] == 200
        held.open.set()
        assert reason_of(under_way.result()) == "length"
    until(lambda: ask(held.port, "/ready") == (200, {"state": "ready"}))


def test_a_drain_ends_streams_in_time_even_if_the_engine_is_stuck(held: Gate):
    held.close()
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(stream, held.port) for _ in range(8)]
        until(lambda: held.stepped.is_set() and sum(held.engine.stats()[:2]) == 8)
        began = time.monotonic()
        held.service.drain(0.3)
        assert 0.3 <= time.monotonic() - began < 2
        assert ask(held.port, "/ready") == (503, {"state": "draining"})
        assert generate(held.port)[0] == 503
        assert {reason_of(each.result()) for each in streams} == {"abort"}


def test_streams_under_way_at_a_drain_come_to_their_own_end(held: Gate):
    held.close()
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(stream, held.port) for _ in range(8)]
        until(lambda: sum(held.engine.stats()[:2]) == 8)
        draining = pool.submit(held.service.drain, WAIT_SECONDS)
        held.open.set()
        assert {reason_of(each.result()) for each in streams} == {"length"}
        draining.result()


def test_a_server_whose_run_has_vanished_generates_on_and_says_what_it_lacks(
    workdir: Path, tmp_path: Path
):
    shutil.copytree(workdir, tmp_path / "run")
    with opened(tmp_path / "run") as (service, port):
        until(lambda: service.current().engine.state == "ready")
        shutil.rmtree(tmp_path / "run")
        assert generate(port, max_tokens=3)[0] == 200
        assert reason_of(stream(port)) == "length"
        assert ask(port, "/ready")[0] == ask(port, "/api/health")[0] == 200
        assert ask(port, "/v1/models")[1]["data"][0]["id"] == "run"
        assert ask(port, "/api/checkpoints") == (200, {"served": 6, "checkpoints": []})
        question = {"prompt": PROMPT}
        assert ask(port, "/api/inspect/tokens", question)[0] == 200
        status, told = ask(port, "/api/inspect/tokens", question | {"step": 2})
        assert (status, told["error"]) == (404, "unknown_step")
        training = {"train_steps": 1, "learning_rate": 0.1}
        training |= {"checkpoint_interval": 0, "eval_interval": 0}
        status, told = ask(port, "/api/train", training)
        assert (status, told["error"]) == (503, "training_unavailable")


def test_nothing_is_swapped_in_while_the_server_drains(
    workdir: Path, held: Gate, monkeypatch: pytest.MonkeyPatch
):
    before = held.service.current()
    loading = threading.Event()
    monkeypatch.setattr(Slots, "warm_up", lambda _: loading.wait(WAIT_SECONDS))
    with ThreadPoolExecutor(1) as pool:
        opening = threading.Event()
        open_, service = held.service._open, held.service
        monkeypatch.setattr(service, "_open", lambda *of: (open_(*of), opening.set())[0])
        swap = pool.submit(service.replace, workdir, "2")
        assert opening.wait(WAIT_SECONDS)
        service.drain(1)
        with pytest.raises(NotServing, match="about to end"):
            swap.result(timeout=WAIT_SECONDS)
    loading.set()
    assert service.current() is before and before.engine.state == "draining"


def test_a_drain_is_one_of_the_model_that_was_served_before_too(
    workdir: Path, held: Gate, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nanogpt_jax.serve.service.GRACE_SECONDS", WAIT_SECONDS)  # for this drain
    old = held.engine
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(generate, held.port)
        until(lambda: old.stats().active == 1)
        held.service.replace(workdir, "2")
        assert held.engine is not old and not under_way.done()
        held.service.drain(0.2)
        assert under_way.result(timeout=WAIT_SECONDS)[0] == 503
    assert old.state == held.engine.state == "draining"
    old.close()


def test_a_request_that_comes_as_the_engine_ends_is_refused_or_told(held: Gate):
    def ask_until_refused() -> list[int]:
        statuses = [200]
        while statuses[-1] == 200:
            statuses.append(generate(held.port, 4)[0])
        return statuses[1:]

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask_until_refused) for _ in range(4)]
        until(lambda: held.engine.stats().finished >= 2)
        held.engine.close()
        ended = [each.result() for each in asked]
    assert [statuses[-1] for statuses in ended] == [503] * 4
    assert sum(map(len, ended)) >= 4 + 2


@pytest.mark.parametrize("ready_first", [True, False])
def test_a_server_whose_engine_dies_ends_only_if_it_never_was_ready(ready_first: bool):
    dead = False
    asked, announced = threading.Event(), threading.Event()

    def is_ready() -> bool:
        asked.set()
        return ready_first and not dead

    with bind("127.0.0.1", 0) as listener:
        server = Server(
            application,
            Patience(),
            is_ready=is_ready,
            is_dead=lambda: dead,
            announce=announced.set,
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert (announced if ready_first else asked).wait(WAIT_SECONDS)
        dead = True
        thread.join(1 if ready_first else WAIT_SECONDS)
        assert thread.is_alive() == ready_first and server.failed != ready_first
        server.should_exit = True
        thread.join()


@pytest.mark.slow
def test_a_command_whose_model_cannot_be_loaded_ends_with_1_and_the_reason(workdir: Path):
    program = (
        "from nanogpt_jax.slots import Slots\n"
        "def fail(_): raise MemoryError('a secret')\n"
        "Slots.warm_up = fail\n"
    )
    words = [*command(program), f"--workdir={workdir}", "--port=0"]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (ExitCode.FAILED, "")
    lines = ended.stderr.splitlines()
    assert " INFO jax " in lines[0]
    assert any(" ERROR the thread engine ended: MemoryError < " in line for line in lines)
    assert "secret" not in ended.stderr
