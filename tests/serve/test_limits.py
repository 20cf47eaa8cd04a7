"""Caps from flags and variables, and the buckets that clients draw from."""

import tracemalloc
from collections.abc import Mapping

import pytest

from nanogpt_jax import cli
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import fields_of
from nanogpt_jax.serve.limits import Buckets, Caps, flags_from


class Clock:
    """A clock that stands until it is moved."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def caps_of(environment: Mapping[str, str], *typed: str) -> Caps:
    found: list[Caps] = []

    def main(*, caps: Caps) -> None:
        found.append(caps)

    cli.bind(main, [*flags_from(environment), *typed])()
    return found[0]


def test_the_caps_are_those_of_the_documented_defaults():
    caps = Caps()
    assert (caps.max_prompt_bytes, caps.max_tokens, caps.max_payload_bytes) == (8192, 512, 2**23)
    assert (caps.rate, caps.burst) == (5.0, 10)
    assert (caps.max_train_steps, caps.max_learning_rate) == (100_000, 1.0)
    assert all(field.meaning for field in fields_of(Caps).values())


def test_a_variable_sets_a_cap_and_a_flag_wins_over_it():
    environment = {"NANOGPT_JAX_MAX_TOKENS": "64", "NANOGPT_JAX_RATE": "0", "MAX_TOKENS": "3"}
    assert caps_of(environment) == Caps(max_tokens=64, rate=0.0)
    assert caps_of(environment, "--max_tokens=65") == Caps(max_tokens=65, rate=0.0)


def test_variables_and_flags_that_cannot_be_read_are_told_at_once():
    environment = {"NANOGPT_JAX_BURST": "0", "NANOGPT_JAX_RATE": "inf", "NANOGPT_JAX_SLOTS": "x"}
    with pytest.raises(ConfigError) as caught:
        caps_of(environment, "--max_tokens=-1")
    found = {problem.partition("=")[0] for problem in caught.value.problems}
    assert found == {"--burst", "--rate", "--slots", "--max_tokens"}


def test_a_bucket_starts_full_and_refills_at_its_rate():
    clock = Clock()
    buckets = Buckets(5.0, 10, clock=clock)
    assert [buckets.take("a") for _ in range(11)] == [0] * 10 + [1]
    clock.seconds = 0.2
    assert [buckets.take("a") for _ in range(2)] == [0, 1]
    clock.seconds = 1000.0  # never more than a full one
    assert [buckets.take("a") for _ in range(11)] == [0] * 10 + [1]


def test_the_wait_is_rounded_up_to_whole_seconds_and_is_enough():
    clock = Clock()
    buckets = Buckets(0.3, 1, clock=clock)
    assert [buckets.take("a"), buckets.take("a")] == [0, 4]  # 1 / 0.3 = 3.33
    clock.seconds = 4.0
    assert buckets.take("a") == 0


def test_a_refusal_takes_nothing():
    clock = Clock()
    buckets = Buckets(1.0, 2, clock=clock)
    assert buckets.take("a", 2.0) == 0
    clock.seconds = 1.0
    assert [buckets.take("a", 2.0), buckets.take("a", 1.0)] == [1, 0]


def test_a_cost_above_the_burst_takes_the_whole_bucket_and_is_not_refused_for_ever():
    clock = Clock()
    buckets = Buckets(1.0, 2, clock=clock)
    assert buckets.take("a", 5.0) == 0
    assert buckets.take("a", 5.0) == 2
    clock.seconds = 2.0
    assert buckets.take("a", 5.0) == 0


def test_clients_do_not_share_a_bucket():
    buckets = Buckets(1.0, 1, clock=Clock())
    assert [buckets.take(client) for client in "aba"] == [0, 0, 1]


def test_a_rate_of_zero_limits_nothing_and_remembers_nobody():
    buckets = Buckets(0.0, 1, clock=Clock())
    assert {buckets.take("a") for _ in range(100)} == {0}
    assert len(buckets) == 0


def test_many_clients_do_not_grow_memory_and_who_came_last_is_remembered():
    buckets = Buckets(1.0, 1, clock=Clock(), most_clients=1000)
    for number in range(1000):
        buckets.take(str(number))
    tracemalloc.start()
    for number in range(50_000):
        buckets.take(f"other {number}")
        buckets.take("regular")
    grown_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(buckets) == 1000 and grown_bytes < 1_000_000
    assert buckets.take("regular") == 1 and buckets.take("other 0") == 0
