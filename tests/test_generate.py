"""Generation: the cache, the batch and the sliding window change nothing but the speed.

The reference is a model without a cache that reads the last tokens that fit, for every token.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import models as model_files
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import KVCache, LanguageModel, ModelOutput
from nanogpt_jax.models import models
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.slots import Alternative, Drawn
from tests.fakes import compile_events

V, CONTEXT = 17, 8
GREEDY = Sampling(temperature=0.0)
SMALL = {"n_layer": 2, "n_head": 4, "n_kv_head": 2, "d_model": 16, "d_head": 4}
NO_STOP = -1


@dataclasses.dataclass(frozen=True)
class Case:
    """A small model whose every parameter is noise, and its generator."""

    model: LanguageModel
    params: Any
    generator: Generator

    @functools.cached_property
    def _logits(self) -> Callable[[Any], Any]:
        def logits(tokens_BT: Any) -> Any:
            hidden_BTD = self.model.apply(self.params, tokens_BT).hidden_BTD
            return self.model.unembed(self.params, hidden_BTD)

        return jax.jit(logits)

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Of the next token, after the last tokens that fit: no cache, one program."""
        kept = list(tokens[-CONTEXT:])
        padded_BT = np.array([kept + [0] * (CONTEXT - len(kept))], np.int32)
        return np.asarray(self._logits(padded_BT))[0, len(kept) - 1]

    def logprobs(self, tokens: Sequence[int]) -> np.ndarray:
        logits_V = self.logits(tokens)
        return logits_V - np.logaddexp.reduce(logits_V)

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The likeliest continuation, token by token."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(np.argmax(self.logprobs(tokens))))
        return tokens[len(prompt) :]

    def stream(
        self, prompt: Sequence[int], sampling: Sampling, count: int, **more: Any
    ) -> list[Drawn]:
        return list(self.generator.stream(self.params, prompt, sampling, max_tokens=count, **more))

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[Sampling],
        count: int,
        stop: int = NO_STOP,
    ) -> list[list[int]]:
        """In batches of three, so that every test runs the same program."""
        idle = 3 - len(prompts)
        drawn = self.generator.complete(
            self.params,
            [*prompts, *[[0]] * idle],
            [*samplings, *[GREEDY] * idle],
            max_tokens=count,
            stop=stop,
        )
        return drawn[: len(prompts)]


@functools.cache
def case_of(name: str, context: int = CONTEXT) -> Case:
    fields = {field.name for field in dataclasses.fields(models[name])}
    config = models[name](
        max_seq_len=context, **{key: value for key, value in SMALL.items() if key in fields}
    )
    model = model_files.build(name, config, V)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), leaf.dtype), shapes
    )
    return Case(model, params, Generator(model, context))


QUICK = ("embedding", "gpt")  # the others compile long, and are left to .ci/run
CASES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(models)
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


@pytest.fixture
def gpt() -> Case:
    return case_of("gpt")


def tokens_of(drawn: Sequence[Drawn]) -> list[int]:
    return [each.token for each in drawn]


def test_the_greedy_stream_is_the_likeliest_token_of_a_full_forward_far_beyond_the_context(
    case: Case,
):
    prompt = [3, 1, 4]
    expected = case.greedy(prompt, 2 * CONTEXT + 3)
    drawn = case.stream(prompt, GREEDY, 2 * CONTEXT + 3)
    assert tokens_of(drawn) == expected
    tokens = list(prompt)
    for token, logprob, _ in drawn:
        assert logprob == pytest.approx(case.logprobs(tokens)[token], abs=1e-4)
        tokens.append(token)


def test_prompts_of_different_lengths_complete_as_if_each_were_alone(case: Case):
    prompts = [[3, 1, 4, 1, 5], [9], [2, 6]]
    count = CONTEXT + 1 - 5  # the longest row ends exactly at the limit
    assert case.complete(prompts, [GREEDY] * 3, count) == [
        case.greedy(prompt, count) for prompt in prompts
    ]


def test_a_request_draws_the_same_streamed_alone_and_completed_amid_others(gpt: Case):
    prompts = [[3, 1, 4], [3, 1, 4], [9]]
    samplings = [Sampling(seed=1), Sampling(seed=2), Sampling(seed=2, temperature=0.7, top_k=5)]
    together = gpt.complete(prompts, samplings, 6)
    assert together[0] != together[1]  # of the same prompt, by the seed alone
    alone = [
        tokens_of(gpt.stream(prompt, sampling, 6))
        for prompt, sampling in zip(prompts, samplings, strict=True)
    ]
    assert together == alone
    backwards = gpt.complete(prompts[::-1], samplings[::-1], 6)
    assert backwards == together[::-1]


@pytest.mark.slow
def test_a_completion_draws_the_same_while_the_room_of_its_cache_grows():
    long = case_of("gpt", context=80)
    prompts, sampling = [[3, 1] * 20, [9], [2, 6]], Sampling(seed=3, temperature=0.7)
    together = long.complete(prompts, [GREEDY, sampling, GREEDY], 41)
    assert [len(row) for row in together] == [41] * 3
    assert together == [
        tokens_of(long.stream(prompt, settings, 41))
        for prompt, settings in zip(prompts, [GREEDY, sampling, GREEDY], strict=True)
    ]
    brief = long.complete([[9]], [sampling], 80, stop=together[1][30])
    assert brief == [together[1][: together[1].index(together[1][30])]]


@pytest.mark.parametrize("length", [1, CONTEXT - 1, CONTEXT])
def test_complete_fills_the_context_to_one_token_beyond_it_and_no_further(gpt: Case, length: int):
    prompt = list(range(length))
    limit = CONTEXT + 1 - length
    assert gpt.complete([prompt], [GREEDY], limit) == [gpt.greedy(prompt, limit)]
    with pytest.raises(ValueError, match=rf"{length} prompt tokens and {limit + 1} more"):
        gpt.complete([prompt], [GREEDY], limit + 1)


@pytest.mark.parametrize("length", [CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT])
def test_a_stream_that_starts_at_the_end_of_the_context_slides(gpt: Case, length: int):
    prompt = [(7 * i + 2) % V for i in range(length)]
    assert tokens_of(gpt.stream(prompt, GREEDY, 3)) == gpt.greedy(prompt, 3)


def test_a_prompt_longer_than_the_context_loses_its_start(gpt: Case):
    tail = [5, 3, 2, 8, 1, 9, 4, 7]
    long, other = [1, 2, 3, *tail], [6, 6, 6, *tail]
    assert (
        gpt.stream(long, GREEDY, 4) == gpt.stream(other, GREEDY, 4) == gpt.stream(tail, GREEDY, 4)
    )
    assert tokens_of(gpt.stream(tail[1:], GREEDY, 4)) == gpt.greedy(tail[1:], 4)


def test_an_empty_prompt_is_refused(gpt: Case):
    with pytest.raises(ValueError, match="empty prompt"):
        gpt.stream([], GREEDY, 1)
    with pytest.raises(ValueError, match="empty prompt"):
        gpt.complete([[1], []], [GREEDY] * 2, 1)


def test_generation_ends_before_a_stop_token(gpt: Case):
    prompt = [3, 1, 4]
    free = gpt.greedy(prompt, 6)
    stop = free[3]
    expected = free[: free.index(stop)]
    assert tokens_of(gpt.stream(prompt, GREEDY, 6, stop={stop, V + 1})) == expected
    other = [9]
    free_other = gpt.greedy(other, 6)
    ended = free_other[: free_other.index(stop)] if stop in free_other else free_other
    assert gpt.complete([prompt, other], [GREEDY] * 2, 6, stop) == [expected, ended]
    assert len(ended) != len(expected)


def penalised(case: Case, prompt: Sequence[int], count: int, penalty: float) -> list[int]:
    """The likeliest continuation by full forward passes, with a repetition penalty."""
    tokens = list(prompt)
    for _ in range(count):
        logits_V = case.logits(tokens)
        lowered_V = np.where(logits_V > 0, logits_V / penalty, logits_V * penalty)
        seen_V = np.isin(np.arange(V), tokens)
        tokens.append(int(np.argmax(np.where(seen_V, lowered_V, logits_V))))
    return tokens[len(prompt) :]


def test_a_repetition_penalty_counts_prompt_and_continuation_beyond_the_window_too(case: Case):
    prompt, count = [3, 1, 4], 2 * CONTEXT
    expected = penalised(case, prompt, count, 1.5)
    assert expected != case.greedy(prompt, count)
    request = dataclasses.replace(GREEDY, repetition_penalty=1.5)
    assert tokens_of(case.stream(prompt, request, count)) == expected


def test_rows_with_and_without_a_repetition_penalty_share_a_batch(gpt: Case):
    prompts = [[3, 1, 4], [3, 1, 4], [9]]
    samplings = [
        Sampling(seed=1, repetition_penalty=3.0),
        Sampling(seed=1),
        Sampling(temperature=0.0, repetition_penalty=1.5),
    ]
    together = gpt.complete(prompts, samplings, 6)
    assert together[0] != together[1] and together[2] == penalised(gpt, [9], 6, 1.5)
    for row in range(3):
        assert together[row] == tokens_of(gpt.stream(prompts[row], samplings[row], 6))
    assert gpt.complete(prompts[1:2], samplings[1:2], 6) == together[1:2]


def test_alternatives_are_the_likeliest_tokens_of_the_unfiltered_model(gpt: Case):
    tokens = [3, 1]
    request = Sampling(temperature=2.0, top_k=4, seed=3)
    drawn = gpt.stream(tokens, request, 5, alternatives=4)
    assert tokens_of(drawn) == tokens_of(gpt.stream(tokens, request, 5))
    for each in drawn:
        logprobs_V = gpt.logprobs(tokens)
        best = np.argsort(-logprobs_V, kind="stable")[:4].tolist()
        assert [other.token for other in each.alternatives] == best
        for other in each.alternatives:
            assert other.logprob == pytest.approx(logprobs_V[other.token], abs=1e-4)
        assert Alternative(each.token, each.logprob) in each.alternatives  # of the top 4, by top_k
        tokens.append(each.token)
    assert len(gpt.stream([1], request, 1, alternatives=V + 3)[0].alternatives) == V


def test_no_tokens_asked_for_are_no_tokens(gpt: Case):
    assert gpt.stream([1], GREEDY, 0) == []
    assert gpt.complete([[1], [2, 3]], [GREEDY] * 2, 0) == [[], []]


def test_parameters_prepared_before_generate_the_same_and_are_prepared_once(gpt: Case):
    prepared = Generator.prepare(gpt.params)
    assert isinstance(prepared["layers"], tuple) and not isinstance(gpt.params["layers"], tuple)
    assert Generator.prepare(prepared) is prepared
    again = dataclasses.replace(gpt, params=prepared)
    assert again.stream([3, 1], Sampling(seed=4), 6) == gpt.stream([3, 1], Sampling(seed=4), 6)


def test_generation_compiles_few_programs_whatever_it_is_asked():
    generator = Generator(counting_model(), 64)

    def generate(length: int, **settings: Any) -> None:
        sampling = Sampling(**settings)
        list(generator.stream({}, [1] * length, sampling, max_tokens=3))
        generator.complete({}, [[1] * length], [sampling], max_tokens=65 - length, stop=0)

    with compile_events() as compiled:
        generate(1)
        assert compiled
        for length in (17, 33):  # read as 16, 32 and 64 tokens
            generate(length)
        first = len(compiled)
        for length in range(1, 65, 3):
            generate(length, seed=length, temperature=length / 10, top_k=length, top_p=0.5)
        assert len(compiled) == first
        generate(1, repetition_penalty=1.5)
        with_penalty = len(compiled)
        assert with_penalty > first
        for length in range(1, 65, 9):
            generate(length, repetition_penalty=length / 10)
        assert len(compiled) == with_penalty


def counting_model(forwards: list[int] | None = None) -> LanguageModel:
    """Answers each token with the one after it; notes how many tokens a forward pass reads."""

    def note(length: int) -> None:
        if forwards is not None:
            forwards.append(length)

    def apply(params: Any, inputs_BT: Any, *, cache: KVCache | None = None) -> ModelOutput:
        if forwards is not None:
            jax.debug.callback(functools.partial(note, inputs_BT.shape[1]))
        return ModelOutput(jax.nn.one_hot((inputs_BT + 1) % V, V) * 100, cache, {}, {})

    def empty_cache(batch: int, length: int) -> KVCache:
        del length
        return KVCache((), (), jnp.zeros(batch, jnp.int32))

    return LanguageModel(lambda _: {}, apply, lambda _, hidden: hidden, {}, empty_cache)


def test_a_stream_reads_only_what_was_asked_for():
    forwards: list[int] = []
    generator = Generator(counting_model(forwards), 64)
    stream = generator.stream({}, [1, 2], Sampling(), max_tokens=3)
    for count in range(1, 4):
        assert next(stream).token == 2 + count
        jax.effects_barrier()
        assert len(forwards) == count
    assert list(stream) == []
    jax.effects_barrier()
    assert forwards == [16, 1, 1]  # the last token is not read


def test_a_completion_ends_with_its_last_row():
    forwards: list[int] = []
    generator = Generator(counting_model(forwards), 64)
    drawn = generator.complete({}, [[1], [4]], [Sampling()] * 2, max_tokens=60, stop=6)
    assert drawn == [[2, 3, 4, 5], [5]]
    jax.effects_barrier()
    assert forwards == [16] + [1] * 5  # not 60


def test_a_model_without_a_cache_streams_by_full_forward_passes():
    def apply(params: Any, inputs_BT: Any, *, cache: None = None) -> ModelOutput:
        assert cache is None
        total_BT = jnp.cumsum(inputs_BT, axis=1) + 1
        return ModelOutput(jax.nn.one_hot(total_BT % V, V) * 100, None, {}, {})

    model = LanguageModel(lambda _: {}, apply, lambda _, hidden: hidden, {}, None)
    generator = Generator(model, 5)
    tokens = [3, 1]
    for _ in range(12):
        tokens.append((sum(tokens[-5:]) + 1) % V)
    drawn = generator.stream({}, tokens[:2], GREEDY, max_tokens=12)
    assert tokens_of(list(drawn)) == tokens[2:]
    with pytest.raises(ValueError, match="no cache"):
        generator.complete({}, [[1]], [GREEDY], max_tokens=2, stop=0)
