"""Batches for training: which feeds give their rows, made ahead by a thread of Grain.

Nothing here knows a device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from absl import logging

from nanogpt_jax.data import packing, streams
from nanogpt_jax.data.conversations import Chat, document_rows
from nanogpt_jax.data.examples import Windows
from nanogpt_jax.data.feeds import ALL, WAITING, Feed, Indexed, Mixed, Own, Packed, Window, pick
from nanogpt_jax.data.parts import Kept, Part
from nanogpt_jax.data.store import Store
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch
from nanogpt_jax.tokenization import Tokenizer

Form = Literal["stream", "packed", "documents", "chat"]


class Share(NamedTuple):
    """Which rows of every batch one process trains on, and whether its log vouches for all."""

    own: Own
    vouches: bool


WHOLE = Share(ALL, True)

# Documents whose lengths say how dense packed rows will be.
MEASURED_DOCUMENTS = 10_000


class Batches:
    """An endless iterator over batches that can say where it stands and go there.

    With `prefetch`, a thread makes so many batches ahead, until the iterator is closed or dropped;
    it hashes them too. `sha256` is `digest_batch` of the batch that was given last.

    With `share` it gives the rows of one of several processes. Who vouches for whole batches reads
    the others' rows, too, for the digest; of a share that does not, the digest is its own.
    """

    def __init__(self, feed: Feed, batch_size: int, prefetch: int, share: Share = WHOLE):
        from nanogpt_jax.data.ahead import make_ahead

        self._iterator = make_ahead(_Hashing(feed, batch_size, share), prefetch)
        self.sha256 = ""

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch, self.sha256 = next(self._iterator)
        return batch

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


class _Hashing:
    """The rows of a share, and the digest of their batch."""

    def __init__(self, feed: Feed, batch_size: int, share: Share):
        self._feed, self._batch_size, self._share = feed, batch_size, share
        self.state, self.restore = feed.state, feed.restore

    def __next__(self) -> tuple[Batch, str]:
        own, vouches = self._share
        if vouches:
            batch = self._feed.take(self._batch_size)
            return pick(batch, own), digest_batch(batch)
        batch = self._feed.take(self._batch_size, own)
        return batch, digest_batch(batch)


def digest_batch(batch: Batch) -> str:
    """The hexadecimal SHA-256 of a batch: names, types, shapes and numbers of its arrays."""
    digest = hashlib.sha256()
    for name, array in batch._asdict().items():
        if array is not None:
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            digest.update(f"{name} {array.dtype.name}{array.shape}".encode())
            digest.update(little.data)
    return digest.hexdigest()


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
    share: Share = WHOLE,
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
    return Batches(feed, batch_size, prefetch, share)


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
