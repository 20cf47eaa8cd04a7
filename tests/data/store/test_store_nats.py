"""The nats of a corpus whose probabilities are known, beside its tokens."""

from collections.abc import Sequence

import numpy as np
import pytest

from nanogpt_jax import tokenization
from nanogpt_jax.data.corpus import Corpus, Documents, Parts
from nanogpt_jax.data.store import columns, open_store, shards
from nanogpt_jax.errors import DataError
from nanogpt_jax.tokenization import Tokenizer
from tests.data.store.corpora import names_corpus

TEXT = "It's a line.\nAnd 12 more:\n\n\tthe last's the third\r\nof the text 東京 é\n" * 4


def known_corpus(text: str, nats: Sequence[float] | np.ndarray | None) -> Corpus:
    parts = Parts(Documents([text], nats), Documents([]))
    return Corpus("synthetic:known", f"{text}{nats}", running=True, read=lambda _: parts)


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return tokenization.train("bpe", [TEXT], 300)


def test_the_nats_of_running_text_are_added_up_for_each_token(
    bpe: Tokenizer, small: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(columns, "BLOCK_TOKENS", 7)
    text = "of the line: the 12 last's " * 9
    nats = np.random.default_rng(0).exponential(size=len(text))
    train = open_store(known_corpus(text, nats), bpe, 0.1).train
    lengths = [len(bpe.bytes_of(token)) for token in train.ids.tolist()]
    assert max(lengths) > 3 and len(train.nats) == len(train.ids) > shards.SHARD_TOKENS
    ends = np.cumsum(lengths)
    expected = [nats[end - length : end].sum() for end, length in zip(ends, lengths, strict=True)]
    np.testing.assert_allclose(train.nats, expected, rtol=1e-12)


def test_the_nats_of_no_running_text_are_none(bpe: Tokenizer):
    assert open_store(known_corpus("", []), bpe, 0.1).train.nats.tolist() == []
    assert np.isnan(open_store(known_corpus("", None), bpe, 0.1).train.nats).tolist() == [True]


@pytest.mark.parametrize(
    "text, count, words",
    [
        ("é", 1, "1 characters of 2 bytes, probabilities of 1"),
        ("of the", 5, "6 characters of 6 bytes, probabilities of 5"),
    ],
)
def test_probabilities_that_do_not_fit_running_text_are_refused(
    bpe: Tokenizer, text: str, count: int, words: str
):
    with pytest.raises(DataError, match=words):
        open_store(known_corpus(text, [1.0] * count), bpe, 0.1)


def test_every_document_needs_its_probability_or_none_has_one(char: Tokenizer):
    with pytest.raises(DataError, match="3 documents and probabilities of 2"):
        open_store(names_corpus(nats=[1.0, 2.0]), char, 0.1)
