"""Feeds: endless rows for training, with a position that a checkpoint can hold.

A feed is asked for so many rows at a time. What it gives depends on its seed and on how many rows
it has given, on nothing else; its state is all that it needs to go on, buffers included. Of several
processes each asks for all rows and is given its own; the others pass, in kept corpora unread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from nanogpt_jax.data.examples import Examples
from nanogpt_jax.data.packing import BestFit, Item, lay_out
from nanogpt_jax.data.store import Tokens
from nanogpt_jax.interface import Batch

Window = Literal["random", "sequential", "shuffled"]
# Documents that wait for a row they fit into: enough for rows 99 % full, little to remember.
WAITING = 256


# Which of the rows asked for are wanted, by their numbers.
Own = slice | np.ndarray
ALL = slice(None)


class Feed(Protocol):
    """Rows without end."""

    def take(self, rows: int, own: Own = ALL) -> Batch:
        """Of the next `rows`, those in `own`."""
        ...

    def state(self) -> dict[str, Any]:
        """Where it stands, as JSON values."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go where `state` was taken."""
        ...


# From the number of a draw, and how many there are, to the examples drawn.
Order = Callable[[int, int], np.ndarray]


def make_order(count: int, window: Window, seed: int) -> Order:
    """The endless order of `count` examples.

    `sequential` takes all in order and begins again, `shuffled` takes all in an order of its own
    every time, `random` draws with replacement. (Grain's shuffle of few examples takes
    milliseconds for each, its random map a generator for each: here a batch is one operation.)
    """

    @functools.lru_cache(maxsize=2)  # one draw may end an epoch and begin the next
    def permute(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(count)

    def draw(first: int, size: int) -> np.ndarray:
        return np.random.default_rng((seed, first)).integers(count, size=size)

    def walk(first: int, size: int) -> np.ndarray:
        epochs, places = np.divmod(first + np.arange(size), count)
        if window == "sequential":
            return places
        return np.array(
            [permute(epoch)[place] for epoch, place in zip(epochs, places, strict=True)]
        )

    return draw if window == "random" else walk


class Indexed(Feed):
    """Rows that can be looked up, in an order."""

    def __init__(self, examples: Examples, window: Window, seed: int):
        self._examples = examples
        self._order = make_order(examples.count, window, seed)
        self._given = 0

    def take(self, rows: int, own: Own = ALL) -> Batch:
        batch = self._examples.build(self._order(self._given, rows)[own])
        self._given += rows
        return batch

    def state(self) -> dict[str, Any]:
        return {"given": self._given}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._given = state["given"]


class Packed(Feed):
    """Kept documents, whole and side by side; one that is longer than a row is cropped."""

    def __init__(self, tokens: Tokens, length: int, bos_id: int, window: Window, seed: int):
        self._tokens = tokens
        self._length = length
        self._bos_id = bos_id
        self._order = make_order(tokens.documents, window, seed)
        self._drawn = 0
        self._fit = BestFit(length, WAITING)

    def take(self, rows: int, own: Own = ALL) -> Batch:
        every = [self._fit.row(self._documents()) for _ in range(rows)]
        packed = [every[row] for row in np.arange(rows)[own]]
        chosen = np.array([item.payload for row in packed for item in row])
        lengths = [[item.length for item in row] for row in packed]
        kept = np.array([tokens for row in lengths for tokens in row])
        start, end = self._tokens.starts[chosen], self._tokens.starts[chosen + 1]
        # Token t of document d lies at start[d] + t: one look-up for the whole batch.
        places = np.arange(kept.sum()) + np.repeat(start - (np.cumsum(kept) - kept), kept)
        ids = self._tokens.ids
        following = ids.take(places + 1, mode="clip")
        targets = np.where(places + 1 < np.repeat(end, kept), following, self._bos_id)
        return lay_out(ids.take(places), targets, lengths, self._length, self._bos_id)

    def _documents(self) -> Iterator[Item]:
        while True:
            (chosen,) = self._order(self._drawn, 1)
            self._drawn += 1
            length = int(self._tokens.starts[chosen + 1] - self._tokens.starts[chosen])
            yield Item(min(length, self._length), int(chosen))

    def state(self) -> dict[str, Any]:
        return {"drawn": self._drawn, "waiting": [list(item) for item in self._fit.waiting]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._drawn = state["drawn"]
        self._fit.waiting = [Item(*item) for item in state["waiting"]]


class Mixed(Feed):
    """Rows of several feeds, each giving its share of the tokens that are trained on.

    The next row comes from the feed that is furthest behind its share.
    """

    def __init__(self, shares: Sequence[float], feeds: Sequence[Feed]):
        self._shares = np.array(shares) / np.sum(shares)
        self._feeds = feeds
        self._tokens = np.zeros(len(feeds))

    def take(self, rows: int, own: Own = ALL) -> Batch:
        return pick(stack([self._row() for _ in range(rows)]), own)

    def _row(self) -> Batch:
        behind = self._shares * self._tokens.sum() - self._tokens
        # At first nobody is behind: the largest share begins.
        chosen = int(np.lexsort((self._shares, behind))[-1])
        row = self._feeds[chosen].take(1)
        self._tokens[chosen] += row.weights_BT.sum()
        return row

    def state(self) -> dict[str, Any]:
        return {
            "tokens": self._tokens.tolist(),
            "feeds": [feed.state() for feed in self._feeds],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._tokens = np.array(state["tokens"])
        for feed, held in zip(self._feeds, state["feeds"], strict=True):
            feed.restore(held)


def pick(batch: Batch, own: Own) -> Batch:
    """Some rows of a batch."""
    return Batch(*(None if array is None else array[own] for array in batch))


def stack(batches: Sequence[Batch]) -> Batch:
    """The rows of all batches, in one; where any has segments, a row without is one segment."""
    segments = None
    if any(batch.segments_BT is not None for batch in batches):
        segments = np.concatenate(
            [
                np.zeros(batch.inputs_BT.shape, np.int32)
                if batch.segments_BT is None
                else batch.segments_BT
                for batch in batches
            ]
        )
    inputs, targets, weights = (
        np.concatenate([batch[field] for batch in batches]) for field in range(3)
    )
    return Batch(inputs, targets, weights, segments)
