"""Tokenizers of every kind, learned from one small corpus."""

import pytest

from nanogpt_jax import tokenization
from nanogpt_jax.tokenization import Tokenizer
from tests.tokenization.corpus import CORPUS


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return tokenization.train("bpe", CORPUS, 320)


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return tokenization.train("char", CORPUS, 0)


@pytest.fixture(params=list(tokenization.tokenizers))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return tokenization.train(request.param, CORPUS, 320)
