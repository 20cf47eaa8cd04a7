"""Batches for training: which feeds give their rows, made ahead by a thread of Grain.

Nothing here knows a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import grain
import numpy as np
from absl import logging
from grain.experimental import ThreadPrefetchIterDataset

from nanogpt_jax.data import packing, streams
from nanogpt_jax.data.conversations import Chat, document_rows
from nanogpt_jax.data.examples import Windows
from nanogpt_jax.data.feeds import WAITING, Feed, Indexed, Mixed, Packed, Window
from nanogpt_jax.data.parts import Kept, Part
from nanogpt_jax.data.store import Store
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch
from nanogpt_jax.tokenization import Tokenizer

Form = Literal["stream", "packed", "documents", "chat"]

# Documents whose lengths say how dense packed rows will be.
MEASURED_DOCUMENTS = 10_000


class Batches:
    """An endless iterator over batches that can say where it stands and go there.

    With `prefetch`, a thread makes so many batches ahead, until the iterator is closed or dropped.
    """

    def __init__(self, feed: Feed, batch_size: int, prefetch: int):
        dataset: grain.IterDataset[Batch] = _Dataset(feed, batch_size)
        if prefetch:
            dataset = ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=prefetch)
        self._iterator = iter(dataset)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._iterator.close()

    def state(self) -> dict[str, Any]:
        """The position, for a checkpoint: JSON values."""
        return self._iterator.get_state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state` gave."""
        self._iterator.set_state(dict(state))


class _Dataset(grain.IterDataset[Batch]):
    def __init__(self, feed: Feed, batch_size: int):
        super().__init__()
        self._feed, self._batch_size = feed, batch_size

    def __iter__(self) -> grain.DatasetIterator[Batch]:
        return _Iterator(self._feed, self._batch_size)


class _Iterator(grain.DatasetIterator[Batch]):
    def __init__(self, feed: Feed, batch_size: int):
        super().__init__()
        self._feed, self._batch_size = feed, batch_size

    def __next__(self) -> Batch:
        return self._feed.take(self._batch_size)

    def get_state(self) -> dict[str, Any]:
        return self._feed.state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._feed.restore(state)


def train_batches(
    parts: Sequence[Part],
    tokenizer: Tokenizer,
    *,
    form: Form,
    window: Window,
    length: int,
    batch_size: int,
    val_fraction: float,
    seed: int,
    prefetch: int,
    chat: Chat | None = None,
    framed: bool = True,
) -> Batches:
    """The training batches that the config describes; `chat` is needed for its form alone.

    Documents stand between BOS unless not `framed`, which is for those that are kept.
    """
    feeds: list[Feed] = []
    for part in parts:
        if isinstance(part, Kept):
            store = part.store
            feeds.append(_kept_feed(store, tokenizer, form, window, length, seed, chat, framed))
        elif not framed:
            raise DataError(
                f"data.bos=False and {part.stream.identity} is a stream; documents of a stream "
                "stand between BOS: use data.bos=True, or a corpus that is kept"
            )
        elif form == "stream":
            feeds.append(streams.StreamedWindows(part.stream, tokenizer, length, val_fraction))
        else:
            pack = form == "packed"
            feeds.append(
                streams.StreamedDocuments(
                    part.stream, tokenizer, length, val_fraction, pack=pack, chat=chat
                )
            )
    if form == "packed":
        _report_density(parts, length)
    feed = feeds[0] if len(feeds) == 1 else Mixed([part.share for part in parts], feeds)
    return Batches(feed, batch_size, prefetch)


def _kept_feed(
    store: Store,
    tokenizer: Tokenizer,
    form: Form,
    window: Window,
    length: int,
    seed: int,
    chat: Chat | None,
    framed: bool,
) -> Feed:
    tokens, bos_id = store.train, tokenizer.bos_id
    enough = len(tokens.ids) > length if form == "stream" else tokens.documents
    if not enough:
        required = f"{length + 1} tokens" if form == "stream" else "1 document"
        raise DataError(
            f"the training part has {len(tokens.ids)} tokens in {tokens.documents} documents, at "
            f"least {required} are needed for train.seq_len={length}: use a longer text, "
            "a shorter train.seq_len or a smaller data.val_fraction"
        )
    if form == "packed":
        return Packed(tokens, length, bos_id, window, seed)
    if form != "stream":
        rows = document_rows(tokens, length, tokenizer, chat, framed)
        return Indexed(rows, window, seed)
    inner_bos = None if store.running else bos_id
    stride = 1 if window == "random" else length
    return Indexed(Windows(tokens, length, stride, inner_bos), window, seed)


def _report_density(parts: Sequence[Part], length: int) -> None:
    """Says how full packed rows will be, from the lengths of the first documents."""
    for part in parts:
        tokens = part.store.train if isinstance(part, Kept) else part.val
        lengths = np.diff(tokens.starts[: MEASURED_DOCUMENTS + 1]).tolist()
        density = packing.measure(lengths, length, WAITING)
        logging.info(
            "packing: %.1f%% of the places in a row hold a token; %.1f%% of the tokens are cropped",
            100 * density.utilisation,
            100 * density.cropped,
        )
