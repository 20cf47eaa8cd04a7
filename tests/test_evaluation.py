"""Evaluation: every number against the same sum by hand, for a model whose answers are a table."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.data.conversations import Turns
from nanogpt_jax.data.corpus import Corpus, Documents, Parts, Truth
from nanogpt_jax.data.held_out import HeldOut
from nanogpt_jax.data.parts import Kept
from nanogpt_jax.data.store import open_store
from nanogpt_jax.evaluation import JUDGED_AT, Evaluator, ratio
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import KVCache, LanguageModel, ModelOutput
from nanogpt_jax.tokenization import Options, Tokenizer
from tests.fakes import compile_events

DOCUMENTS = ["ab", "é", "ba", "aab", "bb"]
NATS = [2.0, 1.5, 3.0, 3.5, 2.5]
LENGTH = 6
TOKENIZER = tokenization.train("char", ["abé"], 0)
BOS, V = TOKENIZER.bos_id, TOKENIZER.vocab_size


def table_model(vocab_size: int = V) -> LanguageModel:
    """A bigram table: the parameters are the logits of the next token."""

    def apply(
        params: Any, inputs_BT: Any, *, segments_BT: Any = None, cache: KVCache | None = None
    ) -> ModelOutput:
        del segments_BT
        return ModelOutput(jax.nn.one_hot(inputs_BT, vocab_size), cache, {}, {})

    def unembed(params: Any, hidden: Any) -> Any:
        return hidden @ params["logits"]

    def empty_cache(batch: int, length: int) -> KVCache:
        del length
        return KVCache((), (), jnp.zeros(batch, jnp.int32))

    def init(_: Any) -> Any:
        return {"logits": jnp.zeros((vocab_size, vocab_size))}

    return LanguageModel(init, apply, unembed, {}, empty_cache)


LOGITS = np.random.default_rng(0).normal(size=(V, V))
PARAMS = {"logits": jnp.asarray(LOGITS, jnp.float32)}


def nats_of(tokens: Sequence[int]) -> float:
    """-log p of all tokens after the first, in double precision."""
    log_p_VV = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    return -sum(log_p_VV[before, after] for before, after in itertools.pairwise(tokens))


def document_nats(text: str) -> float:
    return nats_of([BOS, *TOKENIZER.encode(text).tolist(), BOS])


MakeEvaluator = Callable[..., Evaluator]


@pytest.fixture
def make_evaluator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeEvaluator:
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path))

    def make(
        documents: Sequence[str] = DOCUMENTS,
        *,
        nats: Sequence[float] | None = NATS,
        running: bool = False,
        tokenizer: Tokenizer = TOKENIZER,
        batch_size: int = 2,
        rows: int = 100,
        length: int = LENGTH,
        questions: Sequence[tuple[list[int], list[int]]] = (),
        **more: Any,
    ) -> Evaluator:
        parts = Parts(Documents(["a"]), Documents(documents, nats))
        corpus = Corpus("", f"{documents}{nats}", running, lambda _: parts)
        held_out = HeldOut(
            [Kept(1.0, open_store(corpus, tokenizer, 0.5))],
            tokenizer,
            documents=not running,
            length=length,
            batch_size=batch_size,
            rows=rows,
        )
        held_out.questions = list(questions)
        model = table_model(tokenizer.vocab_size)
        return Evaluator(model, tokenizer, held_out, context_length=12, **more)

    return make


def judge(verdict: Callable[[str], bool] = bool) -> Truth:
    return Truth(1.25, lambda text: -1.0 if verdict(text) else None)


def test_the_means_are_those_of_the_sums_by_hand(make_evaluator: MakeEvaluator):
    values, _ = make_evaluator()(PARAMS)
    nats = np.array([document_nats(text) for text in DOCUMENTS])
    tokens = np.array([len(text) + 1 for text in DOCUMENTS])
    size_bytes = np.array([len(text.encode()) for text in DOCUMENTS])
    loss = nats.sum() / tokens.sum()
    error = math.sqrt(5 / 4 * np.sum((nats - loss * tokens) ** 2)) / tokens.sum()
    per_byte = nats.sum() / size_bytes.sum()
    per_byte_error = math.sqrt(5 / 4 * np.sum((nats - per_byte * size_bytes) ** 2))
    assert len(set(nats.tolist())) == 5 and size_bytes.tolist() != [len(t) for t in DOCUMENTS]
    assert values == pytest.approx(
        {
            "val/loss": loss,
            "val/loss_se": error,
            "val/perplexity": math.exp(loss),
            "val/perplexity_se": math.exp(loss) * error,
            "val/bits_per_byte": per_byte / math.log(2),
            "val/bits_per_byte_se": per_byte_error / size_bytes.sum() / math.log(2),
        },
        rel=1e-5,
    )


def test_the_excess_is_the_loss_over_the_truth_per_character(make_evaluator: MakeEvaluator):
    values, _ = make_evaluator(truth=judge())(PARAMS)
    over = np.array([document_nats(text) for text in DOCUMENTS]) - NATS
    characters = np.array([len(text) for text in DOCUMENTS])
    excess = over.sum() / characters.sum()
    error = math.sqrt(5 / 4 * np.sum((over - excess * characters) ** 2)) / characters.sum()
    assert values["val/excess_nats"] == pytest.approx(excess, rel=1e-5)
    assert values["val/excess_nats_se"] == pytest.approx(error, rel=1e-5)
    assert values["val/entropy_nats"] == 1.25


def test_the_true_model_has_no_excess_and_another_has(make_evaluator: MakeEvaluator):
    true_nats = [document_nats(text) for text in DOCUMENTS]
    evaluator = make_evaluator(nats=true_nats, truth=judge())
    values, _ = evaluator(PARAMS)
    assert values["val/excess_nats"] == pytest.approx(0, abs=1e-6)
    assert values["val/excess_nats_se"] == pytest.approx(0, abs=1e-6)
    assert evaluator({"logits": 3 * PARAMS["logits"]})[0]["val/excess_nats"] > 0.1


def test_padding_rows_and_the_cut_into_batches_do_not_count(make_evaluator: MakeEvaluator):
    exact, _ = make_evaluator(batch_size=5, truth=judge())(PARAMS)
    for batch_size in (1, 3, 8):
        other = make_evaluator(batch_size=batch_size, truth=judge())
        assert other(PARAMS)[0] == pytest.approx(exact, rel=1e-5)


def test_only_the_rows_asked_for_count(make_evaluator: MakeEvaluator):
    fewer, _ = make_evaluator(rows=3, truth=judge())(PARAMS)
    alone, _ = make_evaluator(DOCUMENTS[:3], nats=NATS[:3], truth=judge())(PARAMS)
    assert fewer == pytest.approx(alone, rel=1e-6)
    assert fewer["val/loss"] != make_evaluator()(PARAMS)[0]["val/loss"]


def test_an_evaluation_repeats_itself_without_compiling(make_evaluator: MakeEvaluator):
    evaluator = make_evaluator(truth=judge(), samples=3)
    first = evaluator(PARAMS)
    with compile_events() as compiled:
        assert evaluator(PARAMS) == first
    assert compiled == []
    assert evaluator({"logits": -PARAMS["logits"]}) != first


def test_without_whole_documents_there_is_no_excess_and_the_log_says_so(
    make_evaluator: MakeEvaluator, caplog: pytest.LogCaptureFixture
):
    assert "val/excess_nats" in make_evaluator(length=4, truth=judge())(PARAMS)[0]
    assert "longer than" not in caplog.text
    values, _ = make_evaluator(length=3, truth=judge())(PARAMS)  # "aab" and BOS are four
    assert "val/excess_nats" not in values and "val/loss" in values
    assert "longer than 3 tokens" in caplog.text


def test_without_a_truth_there_is_neither_excess_nor_judgement(make_evaluator: MakeEvaluator):
    values, text = make_evaluator(samples=4)(PARAMS)
    assert {name.removesuffix("_se") for name in values} == {
        "val/loss",
        "val/perplexity",
        "val/bits_per_byte",
    }
    assert set(text) <= set("abé")


def test_valid_stories_are_the_share_of_samples_that_the_truth_allows(
    make_evaluator: MakeEvaluator,
):
    samples = 40
    values, text = make_evaluator(
        truth=judge(lambda story: story.startswith("b")), samples=samples
    )(PARAMS)
    drawn = Generator(table_model(), 12).complete(
        PARAMS,
        [[BOS]] * samples,
        [dataclasses.replace(JUDGED_AT, seed=seed) for seed in range(samples)],
        max_tokens=12,
        stop=BOS,
    )
    stories = [TOKENIZER.decode(tokens) for tokens in drawn]
    share = sum(story.startswith("b") for story in stories) / samples
    assert 0 < share < 1 and len(set(stories)) > 5
    assert values["val/valid_stories"] == share
    error = math.sqrt(share * (1 - share) / samples)
    assert values["val/valid_stories_se"] == pytest.approx(error)
    assert text == stories[0]


ALPHABET = "abcdefghijk"
CHAT = tokenization.train("char", [ALPHABET], 0, Options(special_tokens="chat"))


@pytest.mark.parametrize("at_once", [2, 64])
def test_every_question_is_answered_that_fits_on_its_own(
    make_evaluator: MakeEvaluator, monkeypatch: pytest.MonkeyPatch, at_once: int
):
    monkeypatch.setattr("nanogpt_jax.evaluation.ANSWERED_AT_ONCE", at_once)
    ids, end = CHAT.encode(ALPHABET).tolist(), Turns.of(CHAT).end
    logits = np.zeros((CHAT.vocab_size, CHAT.vocab_size), np.float32)
    logits[ids, [*ids[1:], end]] = 1.0  # the alphabet goes on, and ends
    questions = [(ids[:count], ids[count:]) for count in (1, 10, 2, 9, 5)]
    questions.insert(2, (ids[:10], [*ids[10:], ids[0]]))
    assert max(len(p) for p, _ in questions) + max(len(a) for _, a in questions) > 12
    evaluator = make_evaluator(["ab"], nats=None, tokenizer=CHAT, questions=questions)
    values, sample = evaluator({"logits": jnp.asarray(logits)})
    assert values["val/exact_answers"] == 5 / 6
    assert sample == "a → bcdefghijk"


def test_no_samples_asked_for_leave_no_judgement(make_evaluator: MakeEvaluator):
    values, text = make_evaluator(truth=judge(), samples=0)(PARAMS)
    assert "val/excess_nats" in values and "val/valid_stories" not in values
    assert isinstance(text, str)


def test_a_short_held_out_text_is_measured_in_a_short_window(make_evaluator: MakeEvaluator):
    text = "abéabbaaéabbabéaabbabaa"
    assert len(text) == 23
    evaluator = make_evaluator([text], nats=None, running=True, length=128)
    values, sample = evaluator(PARAMS)
    assert values["val/loss"] == pytest.approx(nats_of(TOKENIZER.encode(text).tolist()) / 22)
    assert math.isnan(values["val/loss_se"])  # one row has no spread
    assert sample.startswith(text[:16])


def test_running_text_is_measured_in_windows_that_tile_it(make_evaluator: MakeEvaluator):
    text = "abéabbaaéabbabéaabbabaa"
    ids = TOKENIZER.encode(text).tolist()
    values, _ = make_evaluator([text], nats=None, running=True, length=5)(PARAMS)
    measured = ids[: 4 * 5 + 1]
    assert values["val/loss"] == pytest.approx(nats_of(measured) / 20)
    size_bytes = len(TOKENIZER.decode(measured[1:]).encode())
    bits = nats_of(measured) / size_bytes / math.log(2)
    assert values["val/bits_per_byte"] == pytest.approx(bits)


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=20), weight=st.floats(0.1, 10))
def test_of_equal_weights_the_error_is_that_of_a_mean(values: list[float], weight: float):
    mean, error = ratio(np.array(values), np.full(len(values), weight))
    assert mean == pytest.approx(np.mean(values) / weight, abs=1e-9)
    expected = np.std(values, ddof=1) / math.sqrt(len(values)) / weight
    assert error == pytest.approx(expected, abs=1e-9)


def test_the_error_of_a_ratio_is_the_spread_of_its_repetitions():
    rng = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        weights = rng.integers(1, 20, 200).astype(float)
        return weights * rng.normal(2.0, 0.5, 200), weights

    ratios, errors = np.array([ratio(*draw()) for _ in range(1000)]).T
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.1)


def test_one_row_has_a_mean_and_no_error():
    mean, error = ratio(np.array([6.0]), np.array([4.0]))
    assert mean == 1.5 and math.isnan(error)
