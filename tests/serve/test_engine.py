"""The engine: many requests in one batch, each as if it were alone."""

from __future__ import annotations

import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from nanogpt_jax.sampling import Sampling
from nanogpt_jax.serve.engine import Engine, NotServing, QueueFull
from nanogpt_jax.serve.service import Service
from nanogpt_jax.slots import Drawn, Request
from tests.fakes import compile_events
from tests.runs import own_core

WAIT = 60.0
REPOSITORY = Path(__file__).resolve().parents[2]


class Ear:
    """Hears all that its request draws."""

    def __init__(self, enough: int = 10**6):
        self.drawn: list[Drawn] = []
        self.end: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.first = threading.Event()
        self._enough = enough

    def draw(self, drawn: Drawn) -> bool:
        self.drawn.append(drawn)
        self.first.set()
        return len(self.drawn) < self._enough

    def finish(self, reason: str) -> None:
        self.end.put(reason)

    def wait(self) -> str:
        return self.end.get(timeout=WAIT)

    @property
    def tokens(self) -> list[int]:
        return [each.token for each in self.drawn]


def request_of(prompt: list[int], max_tokens: int = 10, **settings: Any) -> Request:
    alternatives = settings.pop("alternatives", 0)
    overflow = settings.pop("overflow", "slide")
    stop = frozenset(settings.pop("stop", ()))
    return Request(
        prompt=prompt,
        sampling=Sampling(**settings),
        max_tokens=max_tokens,
        alternatives=alternatives,
        overflow=overflow,
        stop=stop,
    )


def several(count: int) -> list[Request]:
    """Requests of all kinds, always the same."""
    rng = random.Random(0)
    return [
        request_of(
            [rng.randrange(3, 12) for _ in range(rng.choice((1, 5, 17, 40, 62, 70)))],
            max_tokens=rng.randrange(1, 12),
            seed=rng.randrange(2**32),
            temperature=rng.choice((0.0, 0.7, 1.0, 5.0)),
            top_k=rng.choice((0, 1, 5)),
            top_p=rng.choice((1.0, 0.9)),
            min_p=rng.choice((0.0, 0.05)),
            repetition_penalty=rng.choice((1.0, 1.3)),
            alternatives=rng.choice((0, 3, 20)),
        )
        for _ in range(count)
    ]


def ask(engine: Engine, request: Request, client: str = "someone") -> Ear:
    ear = Ear()
    engine.submit(request, ear, client=client)
    return ear


@pytest.fixture
def engine(service: Service) -> Engine:
    return service.current().engine


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_neighbours_change_nothing(engine: Engine):
    requests = several(64)
    alone = []
    for request in requests:
        ear = ask(engine, request)
        assert ear.wait() in ("length", "stop")
        alone.append(ear.drawn)
    assert len({tuple(each.token for each in drawn) for drawn in alone}) > 40

    amid: dict[int, Ear] = {}
    order = list(range(64))
    random.Random(1).shuffle(order)
    for number in order:
        until(lambda: engine.stats().queued < 8)
        amid[number] = ask(engine, requests[number], client=f"client {number % 7}")
    for ear in amid.values():
        ear.wait()
    for number, drawn in enumerate(alone):
        together = amid[number].drawn
        assert [each.token for each in together] == [each.token for each in drawn]
        for one, other in zip(together, drawn, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-5)
            assert [each.token for each in one.alternatives] == [
                each.token for each in other.alternatives
            ]


@pytest.mark.slow
def test_on_one_core_neighbours_do_not_change_the_last_bit(workdir: Path):
    """With more, XLA divides a sum among as many threads as are free."""
    ended = subprocess.run(
        [
            *("taskset", "-c", str(own_core())),
            *(sys.executable, "-m", "tests.serve.alone_and_amid", str(workdir)),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    drawn, different = map(int, ended.stdout.split())
    assert drawn > 200 and different == 0


def test_nothing_is_compiled_after_the_start(engine: Engine):
    with compile_events() as compiled:
        for ear in [ask(engine, request, str(n % 5)) for n, request in enumerate(several(12))]:
            ear.wait()
        assert compiled == []


def test_a_cancelled_request_frees_its_slot_and_a_queued_one_never_runs(engine: Engine):
    busy = [Ear() for _ in range(4)]
    tickets = [engine.submit(request_of([5], 10**6), ear, client="a") for ear in busy]
    for ear in busy:
        assert ear.first.wait(WAIT)
    waiting = Ear()
    queued = engine.submit(request_of([5], 10**6), waiting, client="a")
    assert engine.stats()[:3] == (4, 1, 0)
    engine.cancel(queued)
    assert waiting.wait() == "cancelled" and waiting.drawn == []
    steps = engine.stats().steps
    drawn = len(busy[0].drawn)
    engine.cancel(tickets[0])
    assert busy[0].wait() == "cancelled"
    assert len(busy[0].drawn) - drawn <= engine.stats().steps - steps + 1
    until(lambda: engine.stats().free_slots == 1)
    for ticket in tickets[1:]:
        engine.cancel(ticket)
    for ear in busy[1:]:
        assert ear.wait() == "cancelled"


def test_a_client_that_wants_all_slots_leaves_one_to_a_newcomer_and_loses_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    long = [request_of([5], 300, seed=seed) for seed in range(6)]
    expected = []
    for request in long:
        ear = ask(engine, request)
        ear.wait()
        expected.append(ear.tokens)
    step, queued, come = engine._slots.step, threading.Event(), threading.Event()

    def hold_and_step() -> dict[int, Any]:
        queued.wait(WAIT)
        if engine.stats().free_slots == 0:
            come.wait(WAIT)
        return step()

    class Light(Ear):
        def finish(self, reason: str) -> None:
            self.under_way = sum(ear.end.empty() for ear in hog)
            super().finish(reason)

    monkeypatch.setattr(engine._slots, "step", hold_and_step)
    hog = [ask(engine, request, client="hog") for request in long]
    queued.set()
    until(lambda: engine.stats().free_slots == 0)
    light = Light()
    engine.submit(request_of([6], 5), light, client="light")
    come.set()
    assert light.wait() == "length"
    assert light.under_way >= 4  # it did not wait for their end
    for ear, tokens in zip(hog, expected, strict=True):
        assert ear.wait() == "length"
        assert ear.tokens == tokens


def test_the_queue_is_bounded_and_says_when_to_come_again(engine: Engine):
    tickets = [engine.submit(request_of([5], 10**6), Ear(), client="a") for _ in range(4)]
    until(lambda: engine.stats().active == 4)
    tickets += [engine.submit(request_of([5], 10**6), Ear(), client="a") for _ in range(8)]
    with pytest.raises(QueueFull) as refused:  # half of the queue is the most for one
        engine.submit(request_of([5]), Ear(), client="a")
    assert refused.value.retry_after_seconds >= 1
    for ticket in tickets:
        engine.cancel(ticket)
    until(lambda: engine.stats()[:3] == (0, 0, 4))


def test_a_listener_that_has_enough_ends_with_stop(engine: Engine):
    ear = Ear(enough=3)
    engine.submit(request_of([5], 50), ear, client="a")
    assert ear.wait() == "stop" and len(ear.drawn) == 3


def test_the_context_ends_or_slides_by_choice(engine: Engine):
    prompt = [5] * 60
    ends = ask(engine, request_of(prompt, 20, temperature=0.0, overflow="stop"))
    slides = ask(engine, request_of(prompt, 20, temperature=0.0))
    assert (ends.wait(), slides.wait()) == ("length", "length")
    assert len(ends.drawn) == 5 and len(slides.drawn) == 20
    assert ends.tokens == slides.tokens[:5]


@pytest.mark.parametrize(
    "request_",
    [
        request_of([]),
        request_of([10**6]),
        request_of([-1]),
        request_of([5], 0),
        request_of([5], alternatives=21),
        request_of([5] * 65, overflow="stop"),
    ],
)
def test_what_no_slot_can_begin_is_refused_before_it_waits(engine: Engine, request_: Request):
    with pytest.raises(ValueError):
        engine.submit(request_, Ear(), client="a")
    assert engine.state == "ready"


def fresh(service: Service) -> Engine:
    """Another engine of the same run."""
    other = Service(service.current().workdir, slots=2, queue_length=4)
    engine = other.current().engine
    until(lambda: engine.state == "ready")
    return engine


def test_draining_ends_what_is_under_way_and_takes_in_nothing(service: Service):
    engine = fresh(service)
    ears = [ask(engine, request_of([5], 30), client=str(n)) for n in range(4)]
    drained = threading.Thread(target=engine.drain, args=(WAIT,))
    drained.start()
    until(lambda: engine.state == "draining")
    with pytest.raises(NotServing):
        ask(engine, request_of([5]))
    drained.join()
    assert [ear.wait() for ear in ears] == ["length"] * 4
    engine.close()


def test_who_is_not_done_by_the_deadline_hears_abort_once(service: Service):
    engine = fresh(service)
    ears = [ask(engine, request_of([5], 10**6), client=str(n)) for n in range(4)]
    assert ears[0].first.wait(WAIT)
    assert not engine.drain(0.1)
    assert [ear.wait() for ear in ears] == ["abort"] * 4
    engine.close()
    assert all(ear.end.empty() for ear in ears)
    assert engine.state == "dead"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_fails_says_so_to_everybody(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    engine = fresh(service)

    asked = threading.Event()

    def fail() -> dict[int, Any]:
        asked.wait(WAIT)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._slots, "step", fail)
    ears = [ask(engine, request_of([5], 30), client=str(n)) for n in range(3)]
    asked.set()
    assert [ear.wait() for ear in ears] == ["error"] * 3
    until(lambda: engine.state == "dead")
    engine._thread.join(WAIT)
    with pytest.raises(NotServing):
        ask(engine, request_of([5]))


def test_a_step_that_takes_too_long_is_a_stall_as_long_as_it_lasts(service: Service):
    engine = fresh(service)
    engine._stall_seconds = 0.05
    step, go_on = engine._slots.step, threading.Event()

    def block() -> dict[int, Any]:
        go_on.wait(WAIT)
        return step()

    engine._slots.step = block
    ear = ask(engine, request_of([5], 3))
    until(lambda: engine.state == "stalled")
    go_on.set()
    assert ear.wait() == "length"
    until(lambda: engine.state == "ready")
    engine.close()


def test_a_new_checkpoint_is_served_without_a_gap_and_compiles_nothing(service: Service):
    workdir = service.current().workdir
    other = Service(workdir, "2", slots=2)
    before = other.current()
    until(lambda: before.engine.state == "ready")
    under_way = ask(before.engine, request_of([5], 200, temperature=0.0))
    with compile_events() as compiled:
        other.replace(workdir, "6")
        assert compiled == []
    after = other.current()
    assert (before.run.step, after.run.step) == (2, 6)
    assert before.checkpoint_sha256 != after.checkpoint_sha256
    assert under_way.wait() == "length" and len(under_way.drawn) == 200
    new = ask(after.engine, request_of([5], 3))
    assert new.wait() == "length"
    after.engine.close()


def test_parameters_of_other_steps_are_at_hand(service: Service):
    served = service.current()
    last = jax.tree.leaves(service.params_at(served, served.run.step))
    first = jax.tree.leaves(service.params_at(served, 2))
    assert any(not np.array_equal(a, b) for a, b in zip(first, last, strict=True))
    assert service.params_at(served, 2) is service.params_at(served, 2)
    assert [one.step for one in service.checkpoints()] == [2, 4, 6]
