"""Making ahead, by a thread: the one file of the project that knows Grain.

It is imported where batches are first made: Grain takes a third of a second, and who looks at a
run, or is refused one, needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import grain
from grain.experimental import ThreadPrefetchIterDataset

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """What can be made ahead: things without end, with a position."""

    def __next__(self) -> T_co: ...

    def state(self) -> dict[str, Any]:
        """Where it stands, as JSON values."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go where `state` was taken."""
        ...


def make_ahead(source: Source[T], count: int) -> grain.DatasetIterator[T]:
    """What `source` gives; of `count` things a thread makes so many before they are asked for.

    Its state is that of the thing given last, not of the last one made.
    """
    dataset: grain.IterDataset[T] = _Dataset(source)
    if count:
        dataset = ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=count)
    return iter(dataset)


class _Dataset(grain.IterDataset[T]):
    def __init__(self, source: Source[T]):
        super().__init__()
        self._source = source

    def __iter__(self) -> grain.DatasetIterator[T]:
        return _Iterator(self._source)


class _Iterator(grain.DatasetIterator[T]):
    def __init__(self, source: Source[T]):
        super().__init__()
        self._source = source

    def __next__(self) -> T:
        return next(self._source)

    def get_state(self) -> dict[str, Any]:
        return self._source.state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._source.restore(state)
