"""Corpora that are not kept: tokenized as they come, with everything that is waiting in the state.

Every so many documents, one is held out; training passes it by.
"""

from __future__ import annotations

import base64
import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nanogpt_jax.data.conversations import Chat, Rendering, learned, refuse_long
from nanogpt_jax.data.corpus import Stream
from nanogpt_jax.data.feeds import ALL, WAITING, Feed, Own, pick
from nanogpt_jax.data.packing import BestFit, Item, lay_out
from nanogpt_jax.data.store import Tokens
from nanogpt_jax.data.store.encoding import Codec
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch
from nanogpt_jax.tokenization import Tokenizer

# Documents handed to the tokenizer at once: enough for its threads, soon read.
READ_AT_ONCE = 32


class Place(NamedTuple):
    """A place in a stream: the source's own position, and how many documents lie before it."""

    source: Any = None
    documents: int = 0


def held_out_every(val_fraction: float) -> int:
    """Of so many documents one is held out, never all of them; 0: none is."""
    return max(2, round(1 / val_fraction)) if val_fraction else 0


def _is_held_out(document: int, every: int) -> bool:
    return every > 0 and document % every == 0


def read(stream: Stream, place: Place, every: int, held_out: bool) -> Iterator[tuple[str, Place]]:
    """The training documents, or those held out, each with the place after it; then the end."""
    if held_out and not every:
        return  # rather than look for what is not there until a stream ends
    documents, number = stream.documents(place.source), place.documents
    for text, source in documents:
        number += 1
        if _is_held_out(number - 1, every) == held_out:
            yield text, Place(source, number)


def held_out_tokens(
    stream: Stream, tokenizer: Codec, val_fraction: float, *, documents: int, tokens: int
) -> Tokens:
    """The first held-out documents: so many of them, and so many tokens, or all there are."""
    every, kept, total = held_out_every(val_fraction), [], 0
    for text, _ in read(stream, Place(), every, held_out=True):
        ids = np.array([tokenizer.bos_id, *tokenizer.encode_batch([text])[0]], np.uint32)
        kept.append((ids, len(text), len(text.encode())))
        total += len(ids)
        if len(kept) >= documents and total >= tokens:
            break
    lengths = [len(ids) for ids, _, _ in kept]
    return Tokens(
        ids=np.concatenate([np.zeros(0, np.uint32), *(ids for ids, _, _ in kept)]),
        starts=np.cumsum([0, *lengths]),
        characters=np.array([characters for _, characters, _ in kept], np.int64),
        bytes=np.array([size for _, _, size in kept], np.int64),
        nats=np.full(len(kept), np.nan),
    )


def first_texts(stream: Stream, val_fraction: float, count: int) -> list[str]:
    """The first training documents: what a tokenizer learns from."""
    documents = read(stream, Place(), held_out_every(val_fraction), held_out=False)
    return [text for text, _ in itertools.islice(documents, count)]


class _Documents:
    """The training documents as tokens, again and again, from a place; `place` follows the last."""

    def __init__(self, stream: Stream, tokenizer: Codec, every: int):
        self._stream, self._tokenizer, self._every = stream, tokenizer, every
        self.go_to(Place())

    def go_to(self, place: Place) -> None:
        self.place = place
        self._texts = read(self._stream, place, self._every, held_out=False)
        self._encoded: deque[tuple[np.ndarray, Place]] = deque()

    def __next__(self) -> np.ndarray:
        if not self._encoded:
            self._read()
        ids, self.place = self._encoded.popleft()
        return ids

    def _read(self) -> None:
        found = list(itertools.islice(self._texts, READ_AT_ONCE))
        if not found:  # the end: from the beginning again
            self._texts = read(self._stream, Place(), self._every, held_out=False)
            found = list(itertools.islice(self._texts, READ_AT_ONCE))
        if not found:
            raise DataError(
                f"data.source={self._stream.identity} has no document to train on; "
                "choose another source, or a smaller data.val_fraction"
            )
        encoded = self._tokenizer.encode_batch([text for text, _ in found])
        for (_, place), ids in zip(found, encoded, strict=True):
            bos = np.array([self._tokenizer.bos_id], np.int32)
            self._encoded.append((np.concatenate((bos, ids)), place))


class StreamedWindows(Feed):
    """Windows that tile the stream, documents end to end."""

    def __init__(self, stream: Stream, tokenizer: Tokenizer, length: int, val_fraction: float):
        self._documents = _Documents(stream, tokenizer, held_out_every(val_fraction))
        self._length, self._bos_id = length, tokenizer.bos_id
        self._rest = np.zeros(0, np.int32)  # begins with the last token of the last window

    def take(self, rows: int, own: Own = ALL) -> Batch:
        wanted, found, total = rows * self._length + 1, [self._rest], len(self._rest)
        while total < wanted:
            found.append(next(self._documents))
            total += len(found[-1])
        ids = np.concatenate(found)
        self._rest = ids[wanted - 1 :]
        inputs, targets = (ids[i : i + wanted - 1].reshape(rows, -1) for i in (0, 1))
        segments = np.cumsum(inputs == self._bos_id, axis=1, dtype=np.int32)
        return pick(Batch(inputs, targets, np.ones(inputs.shape, np.float32), segments), own)

    def state(self) -> dict[str, Any]:
        return {"place": list(self._documents.place), "rest": hold(self._rest)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._documents.go_to(Place(*state["place"]))
        self._rest = release(state["rest"])


class StreamedDocuments(Feed):
    """Whole documents in rows: packed by best fit, or one a row; a longer one is cropped.

    With `chat` they are conversations, of which a longer one is a bad record.
    """

    def __init__(
        self,
        stream: Stream,
        tokenizer: Tokenizer,
        length: int,
        val_fraction: float,
        *,
        pack: bool = False,
        chat: Chat | None = None,
    ):
        self._chat, self._name = chat, stream.identity
        self._turns = chat and chat.turns(tokenizer)
        codec = Rendering(tokenizer) if chat else tokenizer
        self._documents = _Documents(stream, codec, held_out_every(val_fraction))
        self._length, self._bos_id = length, tokenizer.bos_id
        self._fit = BestFit(length, WAITING) if pack else None

    def take(self, rows: int, own: Own = ALL) -> Batch:
        if self._fit is None:
            packed = [[item] for item in itertools.islice(self._items(), rows)]
        else:
            packed = [self._fit.row(self._items()) for _ in range(rows)]
        found = [release(item.payload) for row in packed for item in row]
        followed = [np.append(ids, self._bos_id) for ids in found]
        inputs = np.concatenate([ids[:-1][: self._length] for ids in followed])
        targets = np.concatenate([ids[1:][: self._length] for ids in followed])
        lengths = [[item.length for item in row] for row in packed]
        batch = lay_out(inputs, targets, lengths, self._length, self._bos_id)
        return pick(batch if self._turns is None else learned(batch, self._turns), own)

    def _items(self) -> Iterator[Item]:
        while True:
            ids = next(self._documents)
            if self._chat is not None and len(ids) > self._length + 1:
                name = f"{self._name}, conversation {self._documents.place.documents - 1}"
                refuse_long(self._chat.bad, name, len(ids), self._length)
                continue
            # One token more than a row holds: what the last one predicts.
            yield Item(min(len(ids), self._length), hold(ids[: self._length + 1]))

    def state(self) -> dict[str, Any]:
        waiting = [] if self._fit is None else [list(item) for item in self._fit.waiting]
        return {"place": list(self._documents.place), "waiting": waiting}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._documents.go_to(Place(*state["place"]))
        if self._fit is not None:
            self._fit.waiting = [Item(*item) for item in state["waiting"]]


def hold(ids: np.ndarray) -> str:
    """Tokens as text that a checkpoint holds; immutable, so that a position is cheap to copy."""
    return base64.b64encode(ids.astype("<i4").tobytes()).decode()


def release(held: str) -> np.ndarray:
    """The tokens that `hold` was given."""
    return np.frombuffer(base64.b64decode(held), "<i4").astype(np.int32)
