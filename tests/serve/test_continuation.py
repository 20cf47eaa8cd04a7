"""When a text is over, and what it takes to write it: no model runs here."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nanogpt_jax.costs import train_flops_per_token
from nanogpt_jax.experiment import Loaded
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.serve.continuation import Continuation
from nanogpt_jax.serve.plans import Prompt
from nanogpt_jax.serve.service import Service
from nanogpt_jax.slots import Drawn

CONTEXT, STOP = 64, 18


class Draws:
    """A generator that draws given tokens until one of them stops it, as ours does."""

    def __init__(self, *tokens: int):
        self._tokens = tokens

    def stream(self, *_: Any, max_tokens: int, stop: frozenset[int], **__: Any):
        for token in self._tokens[:max_tokens]:
            if token in stop:
                return
            yield Drawn(token, -1.0)


@pytest.fixture
def run(service: Service) -> Loaded:
    return service.current().run


def asked(run: Loaded, prompt: int, max_tokens: int) -> Continuation:
    return Continuation(
        prompt=Prompt(run, [1] * prompt),
        stop=frozenset({STOP}),
        sampling=Sampling(),
        max_tokens=max_tokens,
        alternatives=0,
    )


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([3, 4, STOP, 5], ([3, 4], "stop")),
        ([STOP], ([], "stop")),
        ([3, 4, 5, STOP], ([3, 4, 5], "length")),
        ([3, 4, 5], ([3, 4, 5], "length")),
    ],
)
def test_a_text_is_over_at_its_stop_or_when_it_is_long_enough(
    tokens: list[int], expected: tuple[list[int], str], run: Loaded
):
    generator: Any = Draws(*tokens)
    found = asked(run, 1, 3).write(generator, {})
    assert ([each.token for each in found.drawn], found.finish) == expected


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "read_tokens"),
    [
        (10, 5, 16 + 5),  # the prompt as it is padded, and a step for each token
        (60, 4, 64 + 4),
        (60, 6, 64 + 4 + 2 * CONTEXT),  # two tokens find no room
        (100, 3, 64 + 3 * CONTEXT),
    ],
)
def test_work_is_counted_by_the_tokens_that_are_read(
    prompt: int, max_tokens: int, read_tokens: int, run: Loaded
):
    assert run.shape.max_seq_len == CONTEXT and run.model.empty_cache is not None
    of_token = train_flops_per_token(run.params, run.model.axes, run.shape, CONTEXT) / 3
    assert asked(run, prompt, max_tokens).flops() == pytest.approx(read_tokens * of_token)


def test_without_a_cache_every_token_reads_the_window(run: Loaded):
    model = run.model._replace(empty_cache=None)
    plain = asked(dataclasses.replace(run, model=model), 10, 5)
    of_token = train_flops_per_token(run.params, run.model.axes, run.shape, CONTEXT) / 3
    assert plain.flops() == pytest.approx((16 + 5 * CONTEXT) * of_token)
