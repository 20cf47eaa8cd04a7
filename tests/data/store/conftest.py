"""A cache of the test's own, a tokenizer, and what it has encoded."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from nanogpt_jax import tokenization
from nanogpt_jax.tokenization import Tokenizer
from tests.data.store.corpora import char_tokenizer, make_small


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, not yet made."""
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def char() -> Tokenizer:
    return char_tokenizer()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that any char tokenizer has encoded since."""
    texts: list[str] = []
    kind = tokenization.tokenizers["char"]
    encode_batch = kind.encode_batch

    def note(self: Tokenizer, batch: Sequence[str]) -> list[tokenization.Tokens]:
        texts.extend(batch)
        return encode_batch(self, batch)

    monkeypatch.setattr(kind, "encode_batch", note)
    return texts


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)
