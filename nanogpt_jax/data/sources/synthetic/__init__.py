"""`synthetic:markov` and `synthetic:hmm`: text whose entropy is known exactly, made on the spot.

A query changes defaults: `synthetic:markov?order=3&states=5&seed=1`. The text is running text, a
function of the query alone; it is downloaded from nowhere and kept nowhere.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from nanogpt_jax.data.corpus import Corpus, Documents, Opening, Parts, Truth, code_digest, split_at
from nanogpt_jax.data.sources import Opener, require, sources
from nanogpt_jax.data.sources.synthetic.families import FAMILIES, between
from nanogpt_jax.data.sources.synthetic.process import (
    Process,
    log_probability,
    measure_surprise,
    write_text,
)
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import Field, field_of, fields_of, unknown

LENGTH = field_of(
    "length",
    Annotated[int, "characters of the text, held-out ones included", between(1, 10**7)],
    10**6,
)
# So much of the text goes into the fingerprint: another NumPy may draw other numbers.
FINGERPRINT_CHARACTERS = 4096


@sources
def synthetic(argument: str) -> Opener:
    """Running text of a process of known entropy: markov or hmm, and ?KEY=VALUE&KEY=VALUE."""
    require(argument, "synthetic:markov?order=2&states=8")
    family, _, query = argument.partition("?")
    if family not in FAMILIES:
        raise ConfigError(unknown("data.source=synthetic:", family, FAMILIES))
    declared = fields_of(FAMILIES[family])
    settings = _read(query, f"data.source=synthetic:{family}", declared | {"length": LENGTH})
    written = "&".join(f"{name}={value}" for name, value in settings.items())
    process = FAMILIES[family](**{name: settings[name] for name in declared})
    return functools.partial(
        _open, f"synthetic:{family}?{written}", process, settings["length"], settings["seed"]
    )


def _open(identity: str, process: Process, length: int, seed: int, opening: Opening) -> Corpus:
    if opening.documents:
        raise ConfigError(
            f"data.source={identity} is running text and has no documents; set data.format=stream"
        )

    @functools.cache  # a tokenizer and the store ask for it, one after the other
    def write() -> tuple[str, np.ndarray]:
        text = write_text(process, length, seed)
        return text, measure_surprise(process, text)

    def read(val_fraction: float) -> Parts:
        text, nats_T = write()
        cut = split_at(length, val_fraction)
        return Parts(Documents([text[:cut]], nats_T[:cut]), Documents([text[cut:]], nats_T[cut:]))

    beginning = write_text(process, min(length, FINGERPRINT_CHARACTERS), seed)
    key = f"{identity} {code_digest(sys.modules[__name__])} {beginning}"
    return Corpus(
        identity,
        fingerprint=hashlib.sha256(key.encode()).hexdigest(),
        running=True,
        read=read,
        truth=Truth(process.entropy_rate, functools.partial(log_probability, process)),
    )


def _read(query: str, source: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The values of `fields`: those that a query gives, and the defaults of the others."""
    given: dict[str, Any] = {}
    problems: list[str | None] = []
    for entry in query.split("&") if query else ():
        name, _, text = entry.partition("=")
        if name not in fields:
            problems.append(unknown(f"{source}, key", name, fields))
        elif name in given:
            problems.append(f"{source}?{name} is given twice; give it once")
        else:
            try:
                given[name] = fields[name].parse(text)
                problems.append(fields[name].problem(f"{source}?{name}", given[name]))
            except ValueError as error:
                problems.append(f"{source}?{name}={text!r}: {error}")
    if found := [problem for problem in problems if problem]:
        raise ConfigError(found)
    return {name: given.get(name, field.default) for name, field in fields.items()}
