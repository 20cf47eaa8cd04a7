"""Sources of text: `KIND:ARGUMENT`, or the name of a known corpus.

A kind is one decorated function in a file here. It is given the argument and its own fields,
refuses those that can mean nothing (a ConfigError; no file and no network is touched), and returns
what opens the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nanogpt_jax.data.corpus import AnyCorpus, Opening
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import Registry, unknown

Opener = Callable[[Opening], AnyCorpus]
sources: Registry[Callable[..., Opener]] = Registry("data.source", "nanogpt_jax.data.sources")


def kind_of(source: str) -> str:
    """The kind that a source names."""
    return source.partition(":")[0]


def parse_source(source: str, fields: Mapping[str, Any] | None = None) -> Opener:
    """What opens the corpus that `source` names; `fields` None: its own fields' defaults."""
    kind, _, argument = source.partition(":")
    if kind not in sources:
        raise ConfigError(unknown("data.source", kind, sources))
    if fields is None:
        fields = {name: field.default for name, field in sources.fields(kind).items()}
    return sources[kind](argument, **fields)


def require(argument: str, form: str) -> None:
    """Refuse a source without an argument; `form` is how it is written."""
    if not argument:
        kind = form.partition(":")[0]
        raise ConfigError(f"data.source={kind!r} has no argument; {form} is required")
