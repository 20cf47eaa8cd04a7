"""Drafts: a text is the same with and without them, and good ones save steps of the model."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import models as model_files
from nanogpt_jax.decoding import Decoding
from nanogpt_jax.interface import KVCache, LanguageModel, ModelOutput
from nanogpt_jax.models import models
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.slots import Drawn, Proposer, Request, Slots
from nanogpt_jax.speculation import DraftModel, PromptLookup

V, CONTEXT, ROWS = 11, 24, 8


@dataclasses.dataclass(frozen=True)
class Case:
    """A model of noise, and a smaller one that is something like it."""

    model: LanguageModel
    params: Any
    decoding: Decoding
    draft: LanguageModel
    draft_params: Any

    def slots(self, proposer: Proposer | None) -> Slots:
        return Slots(self.decoding, self.params, ROWS, proposer)


@functools.cache
def case() -> Case:
    sizes = {"n_head": 2, "n_kv_head": 1, "d_model": 16, "max_seq_len": CONTEXT}
    model, draft = (
        model_files.build("gpt", models["gpt"](n_layer=n_layer, **sizes), V) for n_layer in (2, 1)
    )
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(scale=0.3, size=leaf.shape), leaf.dtype), shapes
    )
    # Of the same ends and the same first layer.
    draft_params = {**params, "layers": jax.tree.map(lambda leaf: leaf[:1], params["layers"])}
    return Case(model, params, Decoding(model, CONTEXT), draft, draft_params)


def draw_all(slots: Slots, requests: Sequence[Request]) -> list[list[Drawn]]:
    """What all requests draw, in as many rows as there are."""
    drawn: list[list[Drawn]] = [[] for _ in requests]
    waiting = list(enumerate(requests))[::-1]
    busy: dict[int, int] = {}
    while waiting or busy:
        while waiting and slots.free:
            number, request = waiting.pop()
            slot, progress = slots.begin(request)
            drawn[number] += progress.drawn
            if progress.finish is None:
                busy[slot] = number
        for slot, progress in slots.step().items():
            drawn[busy[slot]] += progress.drawn
            if progress.finish:
                del busy[slot]
    return drawn


def tokens_of(drawn: Sequence[Sequence[Drawn]]) -> list[list[int]]:
    return [[each.token for each in row] for row in drawn]


@functools.cache
def proposers() -> dict[str, Proposer]:
    one = case()
    return {
        "lookup": PromptLookup(tokens=4, longest_match=2),
        "draft": DraftModel(one.draft, one.draft_params, CONTEXT, tokens=3),
    }


@pytest.fixture(params=["lookup", pytest.param("draft", marks=pytest.mark.slow)])
def proposer(request: pytest.FixtureRequest) -> Proposer:
    return proposers()[request.param]


@pytest.mark.slow
def test_greedy_texts_of_a_thousand_prompts_are_those_of_plain_decoding(proposer: Proposer):
    rng = random.Random(0)
    requests = [
        Request(
            prompt=[rng.randrange(V) for _ in range(rng.randrange(1, 20))],
            sampling=Sampling(temperature=0.0),
            max_tokens=rng.randrange(1, 16),
        )
        for _ in range(1000)
    ]
    slots = case().slots(proposer)
    assert tokens_of(draw_all(slots, requests)) == tokens_of(draw_all(case().slots(None), requests))
    assert 0 < slots.accepted < slots.drafted


@pytest.mark.slow
def test_sampled_texts_are_those_of_plain_decoding_beyond_the_context_too(proposer: Proposer):
    rng = random.Random(1)
    requests = [
        Request(
            prompt=[rng.randrange(V) for _ in range(rng.randrange(1, CONTEXT + 5))],
            sampling=Sampling(
                seed=seed,
                temperature=rng.choice((0.5, 1.0)),
                top_k=rng.choice((0, 4)),
                top_p=rng.choice((1.0, 0.8)),
                repetition_penalty=rng.choice((1.0, 1.5)),
            ),
            max_tokens=rng.randrange(1, CONTEXT),
            stop=frozenset({rng.randrange(V)}),
            alternatives=rng.choice((0, 2)),
        )
        for seed in range(100)
    ]
    slots = case().slots(proposer)
    with_drafts, plain = draw_all(slots, requests), draw_all(case().slots(None), requests)
    assert tokens_of(with_drafts) == tokens_of(plain)
    assert slots.accepted > 0
    for one, other in zip(itertools.chain(*with_drafts), itertools.chain(*plain), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [each.token for each in one.alternatives] == [
            each.token for each in other.alternatives
        ]


def table_model(logits_VV: np.ndarray) -> LanguageModel:
    """The next token depends on the last one alone, as the table says."""

    def apply(params: Any, inputs_BT: Any, *, cache: KVCache | None = None) -> ModelOutput:
        del params
        hidden_BTV = jnp.asarray(logits_VV, jnp.float32)[inputs_BT]
        if cache is not None:
            cache = cache._replace(length_B=cache.length_B + inputs_BT.shape[1])
        return ModelOutput(hidden_BTV, cache, {}, {})

    def empty_cache(batch: int, length: int) -> KVCache:
        del length
        return KVCache((), (), jnp.zeros(batch, jnp.int32))

    return LanguageModel(lambda _: {}, apply, lambda _, hidden: hidden, {}, empty_cache)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lookup", "draft"])
def test_sampled_texts_have_the_exact_distribution_of_all_continuations(kind: str):
    """Three tokens, four places, 81 continuations: chi-square of 6000 texts with 80 degrees."""
    rng = np.random.default_rng(3)
    logits, other = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    proposer: Proposer = PromptLookup(tokens=3)
    if kind == "draft":
        proposer = DraftModel(table_model(logits + 0.5 * other), {}, 32, tokens=3)
    slots = Slots(Decoding(table_model(logits), 32), {}, 64, proposer)
    texts = 6000
    requests = [
        Request(prompt=[0, 1, 2, 0, 1], sampling=Sampling(seed=seed), max_tokens=4)
        for seed in range(texts)
    ]
    counts: dict[tuple[int, ...], int] = {}
    for row in tokens_of(draw_all(slots, requests)):
        counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    assert 0 < slots.accepted < slots.drafted
    p_VV = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    statistic = 0.0
    for continuation in itertools.product(range(3), repeat=4):
        p = np.prod([p_VV[a, b] for a, b in itertools.pairwise((1, *continuation))])
        statistic += (counts.get(continuation, 0) - texts * p) ** 2 / (texts * p)
    assert statistic < 80 + 4 * (2 * 80) ** 0.5  # four standard deviations


@pytest.mark.slow
def test_a_model_that_drafts_for_itself_is_never_wrong_and_saves_steps():
    one = case()
    slots = one.slots(DraftModel(one.model, one.params, CONTEXT, tokens=3))
    slots.begin(Request(prompt=[1], sampling=Sampling(seed=5), max_tokens=17))
    steps = 0
    while slots.free < ROWS:
        slots.step()
        steps += 1
    assert (steps, slots.drafted, slots.accepted) == (4, 12, 12)


def test_a_request_with_drafts_goes_on_elsewhere_as_if_nothing_had_happened(proposer: Proposer):
    request = Request(prompt=[1, 2, 1, 2], sampling=Sampling(temperature=0.0), max_tokens=15)
    (expected,) = tokens_of(draw_all(case().slots(None), [request]))
    slots = case().slots(proposer)
    slot, progress = slots.begin(request)
    drawn = list(progress.drawn)
    slots.begin(Request(prompt=[3], sampling=Sampling(), max_tokens=100))
    while progress.finish is None:
        suspended = slots.suspend(slot)
        slots.step()
        if slots.free == ROWS - 1:
            slots.begin(Request(prompt=[4], sampling=Sampling(), max_tokens=1000))
        slot = slots.resume(suspended)
        progress = slots.step()[slot]
        drawn += progress.drawn
    assert [each.token for each in drawn] == expected


def test_lookup_guesses_what_followed_the_longest_latest_match():
    lookup = PromptLookup(tokens=3, longest_match=2)
    assert lookup.guess([1, 2, 3, 4, 9, 1, 2]) == [3, 4, 9]
    assert lookup.guess([1, 2, 3, 1, 2, 4, 1, 2]) == [4, 1, 2]  # the latest
    assert lookup.guess([5, 2, 3, 7, 1, 2]) == [3, 7, 1]  # a match of one
    assert lookup.guess([7, 7, 7]) == [7]
    assert lookup.guess([1, 2, 3]) == []
    assert lookup.guess([1]) == []
