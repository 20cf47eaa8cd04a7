"""Rows of a batch: from a start or a document to inputs, targets, weights and segments.

Pretraining on windows and training on documents differ only in the builder. Plain NumPy.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nanogpt_jax.data.store import Tokens
from nanogpt_jax.interface import Batch


class Examples(Protocol):
    """A builder: how many examples there are to choose from, and the batch of some of them."""

    count: int

    def build(self, index_B: np.ndarray) -> Batch:
        """The batch whose rows are the examples `index_B`."""
        ...


class Windows:
    """Windows of running text; with documents inside, attention stays within each of them.

    `stride` 1 offers every window, `stride` = `length` those that tile the text. Segment 0 is the
    rest of a document that began before the window.
    """

    def __init__(self, tokens: Tokens, length: int, stride: int, bos_id: int | None):
        self._ids = tokens.ids
        self._offsets_T = np.arange(length + 1)
        self._stride = stride
        self._bos_id = bos_id
        self.count = max((len(tokens.ids) - length - 1) // stride + 1, 0)

    def build(self, index_B: np.ndarray) -> Batch:
        """Windows that start at `index_B` times the stride."""
        starts_B1 = index_B[:, None] * self._stride
        rows = self._ids[starts_B1 + self._offsets_T].astype(np.int32)
        inputs, targets = rows[:, :-1], rows[:, 1:]
        segments = None
        if self._bos_id is not None:
            segments = np.cumsum(inputs == self._bos_id, axis=1, dtype=np.int32)
        return Batch(inputs, targets, np.ones(inputs.shape, np.float32), segments)


class Rows:
    """One document a row: BOS, text, and BOS again as the end to predict; padded, weight 0.

    Without `framed` the BOS is left out at both ends, for texts whose last token is their end.
    A document longer than the row is cropped at its end.
    """

    def __init__(self, tokens: Tokens, length: int, bos_id: int, framed: bool = True):
        self._ids = tokens.ids
        self._starts = tokens.starts
        self._offsets_T = np.arange(length + 1)
        self._bos_id = bos_id
        self._framed = framed
        self.count = tokens.documents

    def build(self, index_B: np.ndarray) -> Batch:
        """The documents `index_B`."""
        start_B, end_B = self._starts[index_B], self._starts[index_B + 1]
        places = start_B[:, None] + self._offsets_T + (not self._framed)
        inside = places < end_B[:, None]
        rows = np.where(inside, self._ids.take(places, mode="clip"), self._bos_id).astype(np.int32)
        learned = inside[:, :-1] if self._framed else inside[:, 1:]
        return Batch(rows[:, :-1], rows[:, 1:], learned.astype(np.float32))
