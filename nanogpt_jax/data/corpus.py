"""A corpus before it becomes tokens: where it came from, its documents, what is known about it.

Values that the sources make and the store reads; nothing here opens a file of a corpus.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from nanogpt_jax.errors import DataError


class Documents(NamedTuple):
    """Texts of one part of a corpus, given from the beginning as often as they are asked for.

    They need not be in memory, nor have a length. Those of running text are portions of one text.
    `nats` are exact -log p where the source knows them: one for each document, or for each
    character of running text.
    """

    texts: Iterable[str]
    nats: Sequence[float] | np.ndarray | None = None


class Parts(NamedTuple):
    """What is trained on, and what is held out."""

    train: Documents
    val: Documents


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a source with a known distribution can say about itself and about any text."""

    entropy_nats_per_character: float
    log_probability: Callable[[str], float | None]  # None: impossible under the source


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A source, opened but not necessarily read.

    `fingerprint` changes when the content does; `identity` names the source without any absolute
    path. `read(val_fraction)` gives the two parts, the last share held out. `running` is one text
    without documents of its own, to be read as a stream. `skips` is how many bad records may have
    been left out.
    """

    identity: str
    fingerprint: str
    running: bool
    read: Callable[[float], Parts]
    truth: Truth | None = None
    skips: int = 0


@dataclasses.dataclass(frozen=True)
class Stream:
    """A corpus too large, or too far away, to be kept: its documents in order, from any position.

    `documents(position)` gives documents, each with the position (a JSON value) that goes on right
    after it; None is the beginning. `fingerprint` and `identity` are those of a `Corpus`.
    """

    identity: str
    fingerprint: str
    documents: Callable[[Any], Iterator[tuple[str, Any]]]
    running: bool = False
    truth: Truth | None = None


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Corpora trained on together; each gives its share of the tokens. Shares add up to 1."""

    identity: str
    fingerprint: str
    parts: tuple[tuple[float, Corpus | Stream], ...]
    truth: Truth | None = None

    @property
    def running(self) -> bool:
        """Whether no part has documents."""
        return all(corpus.running for _, corpus in self.parts)


AnyCorpus = Corpus | Stream | Mixture


# A log that tells more of the skipped records than these tells nothing else.
MOST_TOLD = 10


class BadRecords:
    """What becomes of records that cannot be used: `limit` are skipped, the next is an error."""

    def __init__(self, limit: int = 0):
        self.limit = limit
        self._seen: set[str] = set()

    @property
    def skipped(self) -> int:
        """How many were skipped so far."""
        return len(self._seen)

    def __call__(self, problem: str, remedy: str) -> None:
        """Skip a record for `problem`, which names its place, or raise DataError."""
        if problem in self._seen:  # a corpus is read more than once
            return
        if self.skipped >= self.limit:
            also = f", after {self.skipped} others were skipped" if self.skipped else ""
            raise DataError(
                f"{problem}{also}; {remedy}, or let data.on_bad_record=skip leave out up to "
                "data.max_bad_records"
            )
        self._seen.add(problem)
        if self.skipped <= MOST_TOLD:
            logging.warning("skipped: %s", problem)


class Opening(NamedTuple):
    """How a source is opened: as `documents` or as running text, and what bad records do."""

    documents: bool = False
    bad: BadRecords = BadRecords()  # of limit 0, which counts nothing


def split_at(count: int, val_fraction: float) -> int:
    """Where the held-out part of `count` things begins: the training part is rounded down.

    Exact in decimals, because 100 * (1 - 0.9) is less than 10 in binary.
    """
    return math.floor(count * (1 - Fraction(str(val_fraction))))


def code_digest(package: ModuleType) -> str:
    """A hash that changes with any line of the package's own Python files."""
    digest = hashlib.sha256()
    files = importlib.resources.files(package).iterdir()
    for file in sorted(files, key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
