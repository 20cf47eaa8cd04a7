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

    `stride` 1 offers every window, `stride` = `length` those that tile the text.
    """

    def __init__(self, tokens: Tokens, length: int, stride: int, bos_id: int | None):
        self._ids = tokens.ids
        self._length = length
        self._stride = stride
        self._bos_id = bos_id
        self.count = max((len(tokens.ids) - length - 1) // stride + 1, 0)

    def build(self, index_B: np.ndarray) -> Batch:
        """Windows that start at `index_B` times the stride."""
        offsets_T = np.arange(self._length + 1)
        rows = self._ids[index_B[:, None] * self._stride + offsets_T].astype(np.int32)
        inputs, targets = rows[:, :-1], rows[:, 1:]
        segments = None
        if self._bos_id is not None:
            segments = np.cumsum(inputs == self._bos_id, axis=1, dtype=np.int32)
        return Batch(inputs, targets, np.ones(inputs.shape, np.float32), segments)


class Rows:
    """One document a row: BOS, text, and BOS again as the end to predict; padded, weight 0.

    A document longer than the row is cropped at its end.
    """

    def __init__(self, tokens: Tokens, length: int, bos_id: int):
        self._tokens = tokens
        self._length = length
        self._bos_id = bos_id
        self.count = tokens.documents

    def build(self, index_B: np.ndarray) -> Batch:
        """The documents `index_B`."""
        T = self._length
        rows = np.full((len(index_B), T + 1), self._bos_id, np.int32)
        weights = np.zeros((len(index_B), T), np.float32)
        for row, index in enumerate(index_B):
            start, end = self._tokens.starts[index : index + 2]
            size = min(end - start, T + 1)
            rows[row, :size] = self._tokens.ids[start : start + size]
            weights[row, : min(end - start, T)] = 1.0
        return Batch(rows[:, :-1], rows[:, 1:], weights)
