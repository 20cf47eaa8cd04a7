"""Batches for training and evaluation, with Grain: order, prefetching and the data position.

Batch N is a function of (seed, N) alone, so the position is one number and any batch can be made
again. Nothing here knows a device.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self

import grain
import numpy as np

from nanogpt_jax.data.examples import Examples, Packed, Rows, Windows
from nanogpt_jax.data.store import Store
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch

Form = Literal["stream", "packed", "documents"]
Window = Literal["random", "sequential", "shuffled"]

# How much held-out text a sample of running text continues.
PROMPT_TOKENS = 16


class Batches:
    """An endless iterator over batches that can say where it stands and go there.

    With `prefetch`, a thread makes so many batches ahead, until the iterator is closed or dropped.
    """

    def __init__(self, dataset: grain.MapDataset[Batch], prefetch: int):
        self._dataset = dataset
        # One thread is enough for memory-mapped windows.
        options = grain.ReadOptions(
            num_threads=1 if prefetch else 0, prefetch_buffer_size=max(prefetch, 1)
        )
        self._iterator = iter(dataset.to_iter_dataset(options))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def __getitem__(self, number: int) -> Batch:
        """Batch `number`, wherever the iterator stands."""
        batch = self._dataset[number]
        assert batch is not None  # a dataset with a filter could skip one
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


def train_batches(
    store: Store,
    *,
    form: Form,
    window: Window,
    length: int,
    batch_size: int,
    bos_id: int,
    seed: int,
    prefetch: int,
) -> Batches:
    """The training batches that the config describes."""
    tokens = store.train
    inner_bos = None if store.running else bos_id
    if form == "documents":
        examples: Examples = Rows(tokens, length, bos_id)
    elif form == "packed":
        examples = Packed(tokens, length, bos_id)
    else:
        examples = Windows(tokens, length, 1 if window == "random" else length, inner_bos)
    if examples.count == 0:
        required = "1 document" if form == "documents" else f"{length + 1} tokens"
        raise DataError(
            f"the training part has {len(tokens.ids)} tokens in {tokens.documents} documents, at "
            f"least {required} are needed for train.seq_len={length}: use a longer text, "
            "a shorter train.seq_len or a smaller data.val_fraction"
        )
    choose = _order(examples.count, window, batch_size, seed)
    numbers = grain.MapDataset.range(sys.maxsize)
    return Batches(numbers.map(lambda number: examples.build(choose(number))), prefetch)


def _order(count: int, window: Window, batch_size: int, seed: int) -> Callable[[int], np.ndarray]:
    """The function from a batch's number to the examples it holds, without end.

    `sequential` takes all in order and begins again, `shuffled` takes all in an order of its own
    every time, `random` draws with replacement. (Grain's shuffle of few examples takes
    milliseconds for each, its random map a generator for each: here a batch is one operation.)
    """

    @functools.lru_cache(maxsize=2)  # a batch may end one epoch and begin the next
    def permute(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(count)

    def draw(number: int) -> np.ndarray:
        return np.random.default_rng((seed, number)).integers(count, size=batch_size)

    def walk(number: int) -> np.ndarray:
        epochs, places = np.divmod(number * batch_size + np.arange(batch_size), count)
        if window == "sequential":
            return places
        return np.array(
            [permute(epoch)[place] for epoch, place in zip(epochs, places, strict=True)]
        )

    return draw if window == "random" else walk


class HeldOut:
    """The same held-out batches at every evaluation, and what is known of their rows.

    Documents, one a row, where their probability is known or training is on documents, else
    windows that tile the held-out text. The last batch is filled up with rows of weight 0.
    """

    def __init__(
        self, store: Store, *, documents: bool, length: int, batch_size: int, rows: int, bos_id: int
    ):
        tokens = store.val
        if len(tokens.ids) < 2:
            raise DataError(
                f"the held-out part has {len(tokens.ids)} tokens, at least 2 are needed: "
                "use a longer text or a larger data.val_fraction"
            )
        self.length = length if documents else min(length, len(tokens.ids) - 1)
        examples: Examples
        if documents:
            examples = Rows(tokens, self.length, bos_id)
        else:
            inner_bos = None if store.running else bos_id
            examples = Windows(tokens, self.length, self.length, inner_bos)
        self.rows = min(rows, examples.count)
        self.nats = tokens.nats[: self.rows] if documents else np.full(self.rows, np.nan)
        self.characters = tokens.characters[: self.rows] if documents else np.zeros(self.rows)
        self.whole = documents and bool(np.all(np.diff(tokens.starts)[: self.rows] <= self.length))
        # Where a sample starts: a document's beginning, or the first held-out words.
        opening = min(PROMPT_TOKENS, self.length)
        self.prompt = tokens.ids[:opening].tolist() if store.running else [bos_id]
        self.batches = [
            _fill(examples.build(np.arange(first, min(first + batch_size, self.rows))), batch_size)
            for first in range(0, self.rows, batch_size)
        ]


def _fill(batch: Batch, rows: int) -> Batch:
    """`batch` with rows of weight 0 up to `rows`, so that one compiled program serves all."""

    def fill(x: np.ndarray | None) -> np.ndarray | None:
        return None if x is None else np.pad(x, ((0, rows - len(x)), (0, 0)))

    return Batch(*(fill(field) for field in batch))
