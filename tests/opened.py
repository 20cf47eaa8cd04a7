"""Corpora opened by their names, for the tests of sources and of what is made from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nanogpt_jax.data.corpus import BadRecords, Corpus, Documents, Opening
from nanogpt_jax.data.sources import kind_of, parse_source, sources
from nanogpt_jax.errors import DataError


def whole(documents: Documents) -> str:
    """Running text, of which a source gives portions."""
    return "".join(documents.texts)


def open_corpus(source: str, *, documents: bool = False, skipped: int = 0, **given: Any) -> Corpus:
    """The kept corpus that `source` names; `given` are some of its own fields."""
    declared = sources.fields(kind_of(source)) if given else {}
    fields = {name: field.default for name, field in declared.items()} | given
    opener = parse_source(source, fields or None)
    corpus = opener(Opening(documents, BadRecords(skipped)))
    assert isinstance(corpus, Corpus)
    return corpus


def read_all(source: object, **opened: Any) -> list[str]:
    """The texts of the files that `source` names."""
    return list(open_corpus(f"files:{source}", **opened).read(0.0).train.texts)


def refusal(action: Callable[[], object], error: type[Exception] = DataError) -> str:
    """The one line in which `action` is refused."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message
