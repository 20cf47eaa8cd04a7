"""A corpus before it becomes tokens: where it came from, its documents, what is known about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Documents(NamedTuple):
    """Texts of one part of a corpus; `nats` are their exact -log p where the source knows them."""

    texts: Sequence[str]
    nats: Sequence[float] | None = None


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

    `fingerprint` changes exactly when the content does; `identity` names the source without any
    absolute path. `read(val_fraction, split)` returns the two parts, the last share held out.
    `running` is one text without documents of its own, to be read as a stream.
    """

    identity: str
    fingerprint: str
    running: bool
    read: Callable[[float], Parts]
    truth: Truth | None = None


def tail(count: int, fraction: float) -> int:
    """How many of `count` are trained on when the last `fraction` is held out."""
    return count - int(count * fraction)
