"""What is counted is what happened."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from prometheus_client.parser import text_string_to_metric_families

from nanogpt_jax.serve.engine import Finish, State, Stats
from nanogpt_jax.serve.metrics import Metrics, count_programs
from nanogpt_jax.slots import Drawn


class Engine:
    """An engine of which only the numbers are known."""

    state: State = "ready"

    def stats(self) -> Stats:
        return Stats(
            active=3,
            queued=2,
            free_slots=1,
            tokens=40,
            finished=5,
            cancelled=6,
            steps=7,
            drafted=8,
            accepted=9,
        )


class Collected:
    """A listener that has heard enough after two tokens."""

    def __init__(self):
        self.heard: list[object] = []

    def draw(self, drawn: Drawn) -> bool:
        self.heard.append(drawn.token)
        return len(self.heard) < 2

    def finish(self, reason: Finish) -> None:
        self.heard.append(reason)


def metrics() -> Metrics:
    engine: Any = Engine()
    return Metrics(lambda: engine)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every number by its name and the values of its labels."""
    return {
        (sample.name.removeprefix("nanogpt_jax_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_the_engine_is_read_when_somebody_asks():
    found = samples(metrics())
    assert found["ready",] == 1
    assert found["active_generations",] == 3
    assert found["queue_depth",] == 2
    assert found["free_slots",] == 1
    assert found["generated_tokens_total",] == 40
    assert found["finished_generations_total",] == 5
    assert found["cancelled_generations_total",] == 6
    assert found["steps_total",] == 7
    assert (found["drafted_tokens_total",], found["accepted_tokens_total",]) == (8, 9)


def test_requests_are_counted_by_route_and_status_and_methods_are_few():
    counted = metrics()
    for method in ("GET", "GET", "EVIL", "BREW"):
        counted.count_request(method, "/v1/models", 200)
    found = samples(counted)
    assert found["requests_total", "GET", "/v1/models", "200"] == 2
    assert found["requests_total", "other", "/v1/models", "200"] == 2


def test_the_first_token_is_timed_from_the_admission_and_others_from_the_one_before():
    counted, collected = metrics(), Collected()
    ticks = iter([10.0, 13.0, 13.5])
    timed = counted.time_tokens(collected, clock=lambda: next(ticks))
    assert timed.draw(Drawn(7, -1.0)) is True
    assert timed.draw(Drawn(8, -1.0)) is False
    timed.finish("stop")
    assert collected.heard == [7, 8, "stop"]
    found = samples(counted)
    assert (found["first_token_seconds_count",], found["first_token_seconds_sum",]) == (1, 3.0)
    assert (found["token_seconds_count",], found["token_seconds_sum",]) == (1, 0.5)


def test_a_program_is_counted_when_it_is_compiled_and_only_then():
    count_programs()
    double = jax.jit(lambda x: 2 * x + 17)
    x = jnp.zeros(3)
    before = count_programs()
    double(x)
    assert count_programs() == before + 1
    double(x)
    assert count_programs() == before + 1
    assert samples(metrics())["compiled_programs_total",] == before + 1


def test_resources_of_the_process_are_numbers_without_names():
    counted = metrics()
    found = samples(counted)
    assert found["resident_bytes",] > 1 << 20
    assert found["open_files",] > 2
    assert found["threads",] >= 1
    assert b"/" not in counted.render().replace(b"\\/", b"")
