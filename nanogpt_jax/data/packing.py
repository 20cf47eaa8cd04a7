"""Whole documents side by side in rows of a fixed length: which share a row, and how they lie.

Best fit: a row takes the longest waiting document that still fits, and again, until none does
(Ding et al. 2024, arXiv:2404.10830). Nothing here knows where documents come from.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nanogpt_jax.interface import Batch


class Item(NamedTuple):
    """A document that waits for a row: its tokens in one, and what finds or holds them (JSON)."""

    length: int
    payload: Any


class BestFit:
    """Rows of `capacity` tokens from documents in any order, `window` of which wait at a time.

    A longer document is an item of `capacity`: whoever lays it out crops it. `waiting` is the
    whole state.
    """

    def __init__(self, capacity: int, window: int):
        self.capacity = capacity
        self.window = window
        self.waiting: list[Item] = []  # the shortest first

    def row(self, documents: Iterator[Item]) -> list[Item]:
        """The documents of the next row; empty when no document is left."""
        while len(self.waiting) < self.window and (item := next(documents, None)) is not None:
            insort(self.waiting, item, key=_length)
        chosen, room = [], self.capacity
        while place := bisect_right(self.waiting, room, key=_length):
            chosen.append(self.waiting.pop(place - 1))
            room -= chosen[-1].length
        return chosen


def _length(item: Item) -> int:
    return item.length


def lay_out(
    inputs: np.ndarray, targets: np.ndarray, rows: Sequence[Sequence[int]], length: int, bos_id: int
) -> Batch:
    """The batch whose rows hold documents of these lengths, which follow each other in `inputs`.

    Segments count the documents of a row from 1; 0 is padding, of weight 0.
    """
    counts = np.array([len(row) for row in rows])
    lengths = np.array([tokens for row in rows for tokens in row], np.int64)
    row = np.repeat(np.arange(len(rows)), counts)
    number = np.arange(len(lengths)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    row_tokens = np.array([sum(row) for row in rows])
    place_T = np.arange(len(inputs)) - np.repeat(np.cumsum(row_tokens) - row_tokens, row_tokens)
    at = np.repeat(row, lengths), place_T
    shape = (len(rows), length)
    batch = Batch(
        inputs_BT=np.full(shape, bos_id, np.int32),
        targets_BT=np.full(shape, bos_id, np.int32),
        weights_BT=np.zeros(shape, np.float32),
        segments_BT=np.zeros(shape, np.int32),
    )
    batch.inputs_BT[at], batch.targets_BT[at] = inputs, targets
    batch.weights_BT[at], batch.segments_BT[at] = 1, np.repeat(number, lengths)
    return batch


class Density(NamedTuple):
    """What packing makes of documents: shares between 0 and 1."""

    utilisation: float  # of the places in rows that hold a token
    cropped: float  # of the documents' tokens that fit into no row


def measure(lengths: Sequence[int], capacity: int, window: int) -> Density:
    """The density of rows packed from documents of these lengths."""
    fit, rows, kept = BestFit(capacity, window), 0, 0
    waiting = iter([Item(min(length, capacity), None) for length in lengths])
    while row := fit.row(waiting):
        rows += 1
        kept += sum(item.length for item in row)
    if not rows:
        return Density(0.0, 0.0)
    return Density(kept / (rows * capacity), 1 - kept / sum(lengths))
