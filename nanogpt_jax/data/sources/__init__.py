"""Sources of text: `KIND:ARGUMENT` names one; a new kind is one decorated function here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanogpt_jax.data.corpus import Corpus
from nanogpt_jax.errors import DataError
from nanogpt_jax.registry import Registry

sources: Registry[Any] = Registry("data.source", "nanogpt_jax.data.sources")


def kind_of(source: str) -> str:
    """The kind that a source names."""
    return source.partition(":")[0]


def open_source(source: str, documents: bool, fields: Mapping[str, Any]) -> Corpus:
    """The corpus that `source` names; `documents` asks for documents instead of running text."""
    kind, colon, argument = source.partition(":")
    if not colon or not argument:
        raise DataError(
            f"data.source={source!r}: KIND:ARGUMENT is required, such as bundled:tales or text:PATH"
        )
    return sources[kind](argument, documents, **fields)
