"""The parts of what is trained on, opened: each is kept as tokens, or streamed.

A corpus is one part; a mixture has several, of which each gives its share.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nanogpt_jax.data import streams
from nanogpt_jax.data.conversations import Chat, Rendering, conversations_of
from nanogpt_jax.data.corpus import AnyCorpus, Corpus, Documents, Mixture, Parts, Stream
from nanogpt_jax.data.store import Store, Tokens, open_store
from nanogpt_jax.tokenization import Tokenizer

# A tokenizer learns from so many documents of a stream.
LEARNED_DOCUMENTS = 20_000


class Kept(NamedTuple):
    """A part of the training text whose tokens are kept, and its share of all tokens."""

    share: float
    store: Store


class Streamed(NamedTuple):
    """A part that is tokenized as it comes, and its share; `val` are its held-out documents."""

    share: float
    stream: Stream
    val: Tokens


Part = Kept | Streamed


def open_parts(
    corpus: AnyCorpus,
    tokenizer: Tokenizer,
    val_fraction: float,
    *,
    held_out_rows: int,
    length: int,
    chat: Chat | None = None,
) -> tuple[Part, ...]:
    """The tokens of each part; of a stream, only enough held-out documents for so many rows.

    With `chat`, documents are records of conversations.
    """
    parts: list[Part] = []
    encoder = Rendering(tokenizer) if chat else tokenizer
    for share, part in leaves(corpus):
        if chat is not None:
            part = conversations_of(part, chat.bad)
        if isinstance(part, Corpus):
            parts.append(Kept(share, open_store(part, encoder, val_fraction)))
            continue
        held_out = streams.held_out_tokens(
            part,
            encoder,
            val_fraction,
            documents=held_out_rows,
            tokens=held_out_rows * length + 1,
        )
        parts.append(Streamed(share, part, held_out))
    return tuple(parts)


def leaves(corpus: AnyCorpus) -> Iterator[tuple[float, Corpus | Stream]]:
    """The corpora that are read, with their shares."""
    if isinstance(corpus, Mixture):
        yield from corpus.parts
    else:
        yield 1.0, corpus


class _Chained:
    """Texts of one corpus after the other, as often as they are asked for."""

    def __init__(self, corpora: Sequence[Iterable[str]]):
        self._corpora = corpora

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(self._corpora)


def to_learn_from(corpus: AnyCorpus) -> Corpus:
    """The text that a tokenizer learns from: all of a corpus, the beginning of a stream."""
    if isinstance(corpus, Corpus):
        return corpus

    def read(val_fraction: float) -> Parts:
        train, val = [], []
        for _, part in leaves(corpus):
            if isinstance(part, Stream):
                train.append(streams.first_texts(part, val_fraction, LEARNED_DOCUMENTS))
            else:
                read_parts = part.read(val_fraction)
                train.append(read_parts.train.texts)
                val.append(read_parts.val.texts)
        return Parts(*(Documents(_Chained(texts)) for texts in (train, val)))

    return Corpus(corpus.identity, corpus.fingerprint, corpus.running, read)
