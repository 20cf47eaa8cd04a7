"""Beam search: as wide as the tree it is enumeration, as narrow as one token it is greedy."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import models as model_files
from nanogpt_jax.beam import BeamSearch, Hypothesis, score_of
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import KVCache, LanguageModel, ModelOutput
from nanogpt_jax.models import models
from nanogpt_jax.sampling import Sampling
from tests.fakes import compile_events

V, CONTEXT, STOP, DEPTH = 5, 8, 2, 3
PROMPT = [3, 1, 4]


@functools.cache
def subject() -> tuple[LanguageModel, Any]:
    """A small gpt whose every parameter is noise."""
    config = models["gpt"](max_seq_len=CONTEXT, n_layer=2, n_head=2, n_kv_head=1, d_model=8)
    model = model_files.build("gpt", config, V)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return model, jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), leaf.dtype), shapes
    )


@functools.cache
def searcher() -> BeamSearch:
    return BeamSearch(subject()[0], CONTEXT)


def search(beams: int, max_tokens: int, **more: Any) -> list[Hypothesis]:
    return searcher().search(subject()[1], PROMPT, beams=beams, max_tokens=max_tokens, **more)


@functools.cache
def leaves() -> tuple[np.ndarray, np.ndarray]:
    """Every text of DEPTH tokens, and the log-probability of each token, by a full forward pass."""
    model, params = subject()
    texts_NT = np.array(list(itertools.product(range(V), repeat=DEPTH)), np.int32)
    prompts_NT = np.tile(np.array(PROMPT, np.int32), (len(texts_NT), 1))

    @jax.jit
    def logprobs(tokens_BT: Any) -> Any:
        hidden_BTD = model.apply(params, tokens_BT).hidden_BTD[:, len(PROMPT) - 1 : -1]
        logprobs_BTV = jax.nn.log_softmax(model.unembed(params, hidden_BTD))
        return jnp.take_along_axis(logprobs_BTV, texts_NT[..., None], axis=-1)[..., 0]

    return texts_NT, np.asarray(logprobs(np.concatenate([prompts_NT, texts_NT], axis=1)))


def enumerate_all(stop: Collection[int], length_penalty: float) -> list[Hypothesis]:
    """Every continuation, best first."""
    found = {}
    for text, logprobs in zip(*(leaf.tolist() for leaf in leaves()), strict=True):
        at = next((place for place, token in enumerate(text) if token in stop), None)
        length = DEPTH if at is None else at + 1
        logprob = math.fsum(logprobs[:length])
        key = tuple(text[:at]), None if at is None else text[at]
        found[key] = Hypothesis(*key, logprob, logprob / ((5 + length) / 6) ** length_penalty)
    return sorted(found.values(), key=lambda each: -each.score)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("stop", [(), (STOP,), (0, STOP)], ids=str)
def test_a_beam_as_wide_as_the_tree_finds_every_continuation_in_order(
    stop: tuple[int, ...], length_penalty: float
):
    expected = enumerate_all(stop, length_penalty)
    found = search(V**DEPTH, DEPTH, stop=stop, length_penalty=length_penalty)
    assert len(found) == len(expected)
    assert {each[:2] for each in found} == {each[:2] for each in expected}
    assert found[0][:2] == expected[0][:2]
    exact = {each[:2]: each[2:] for each in expected}
    for each in found:
        assert each[2:] == pytest.approx(exact[each[:2]], abs=1e-4)
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)
    assert math.fsum(math.exp(each.logprob) for each in found) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("length_penalty", [0.0, 3.0])
def test_no_beam_finds_better_than_the_best_and_a_wide_one_finds_it(length_penalty: float):
    everything = enumerate_all((STOP,), length_penalty)
    best = everything[0]
    for beams in (1, 3, V**DEPTH):
        found = search(beams, DEPTH, stop=(STOP,), length_penalty=length_penalty)
        assert found[0].score <= best.score + 1e-4
        assert len({each[:2] for each in found}) == len(found) == min(beams, len(everything))
    assert found[0][:2] == best[:2]


def test_one_beam_is_the_greedy_continuation():
    model, params = subject()
    stream = Generator(model, CONTEXT).stream(
        params, PROMPT, Sampling(temperature=0.0), max_tokens=5
    )
    drawn = list(stream)
    (found,) = search(1, 5)
    assert found.tokens == tuple(each.token for each in drawn)
    assert found.logprob == pytest.approx(sum(each.logprob for each in drawn), abs=1e-4)
    assert found.score == found.logprob and found.stop is None


def table_model(table_VV: Sequence[Sequence[float]], forwards: list[int]) -> LanguageModel:
    """The next token depends on the last alone; notes how many tokens a forward pass reads."""
    logits_VV = jnp.log(jnp.array(table_VV))

    def apply(params: Any, inputs_BT: Any, *, cache: KVCache | None = None) -> ModelOutput:
        jax.debug.callback(lambda: forwards.append(inputs_BT.shape[1]))
        return ModelOutput(logits_VV[inputs_BT], cache, {}, {})

    def empty_cache(batch: int, length: int) -> KVCache:
        del length
        return KVCache((), (), jnp.zeros(batch, jnp.int32))

    return LanguageModel(lambda _: {}, apply, lambda _, hidden: hidden, {}, empty_cache)


def test_two_beams_find_what_greed_misses_and_the_length_penalty_prefers_longer_texts():
    # Token 1 begins likelier, but nothing after it is likely; 3 is the stop.
    table = [[0.0, 0.5, 0.4, 0.1], [0.3, 0.3, 0.0, 0.4], [0.0, 0.0, 0.1, 0.9], [0.25] * 4]
    beam = BeamSearch(table_model(table, []), 16)

    def best(beams: int, length_penalty: float = 0.0) -> Hypothesis:
        return beam.search(
            {}, [0], beams=beams, max_tokens=3, stop=[3], length_penalty=length_penalty
        )[0]

    assert best(1)[:2] == ((1,), 3)
    assert best(2)[:2] == ((2,), 3)
    assert math.exp(best(2).logprob) == pytest.approx(0.4 * 0.9)
    assert len(best(2, 20.0).tokens) > len(best(2).tokens)


def test_the_length_penalty_is_that_of_wu():
    assert score_of(-3.0, 7, 0.0) == -3.0
    assert score_of(-3.0, 7, 1.0) == pytest.approx(-1.5)
    assert score_of(-3.0, 1, 5.0) == -3.0


def test_a_search_ends_when_nothing_better_can_follow():
    forwards: list[int] = []
    table = [[0.0, 0.9, 0.1], [0.04, 0.06, 0.9], [0.3, 0.3, 0.4]]
    beam = BeamSearch(table_model(table, forwards), 64)
    (found,) = beam.search({}, [0], beams=1, max_tokens=60, stop=[2])
    jax.effects_barrier()
    assert found[:2] == ((1,), 2)
    assert len(forwards) == 2  # the prompt, and one token
    impossible = [[0.0, 0.0, 1.0], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4]]
    beam = BeamSearch(table_model(impossible, []), 64)
    only = beam.search({}, [0], beams=4, max_tokens=60, stop=[2])
    assert [each[:2] for each in only] == [((), 2)]


def test_of_equally_likely_tokens_the_lower_id_comes_first():
    beam = BeamSearch(table_model([[1 / 3] * 3] * 3, []), 16)
    found = beam.search({}, [0], beams=3, max_tokens=2)
    assert [each.tokens for each in found] == [(0, 0), (0, 1), (0, 2)]


def test_a_stop_outside_the_vocabulary_stops_nothing():
    assert search(3, 3, stop=(-1, V)) == search(3, 3)


def test_lengths_prompts_and_penalties_compile_nothing_new():
    forward = table_model([[0.2, 0.5, 0.3]] * 3, [])
    beam = BeamSearch(forward, 64)
    with compile_events() as compiled:
        beam.search({}, [0], beams=3, max_tokens=4, stop=[2])
        assert compiled
        first = len(compiled)
        for length in range(1, 16, 4):
            beam.search({}, [1] * length, beams=3, max_tokens=length, stop=[1], length_penalty=0.5)
        assert len(compiled) == first


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ValueError, match="beams=0"):
        search(0, 1)
    with pytest.raises(ValueError, match="length_penalty=-1"):
        search(1, 1, length_penalty=-1.0)
    with pytest.raises(ValueError, match="3 prompt tokens and 7 more"):
        search(1, 7)
    without = subject()[0]._replace(empty_cache=None)
    with pytest.raises(ValueError, match="no cache"):
        BeamSearch(without, CONTEXT).search(subject()[1], [1], beams=2, max_tokens=2)
    assert search(3, 0) == [Hypothesis((), None, 0.0, 0.0)]
