"""What is done to a run in its middle."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from nanogpt_jax.data.pipeline import Batches


class TappedBatches:
    """Batches, and something that is done when one of them is drawn."""

    def __init__(self, batches: Batches, number: int, act: Callable[[], None]):
        self._batches, self._number, self._act = batches, number, act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def __enter__(self) -> TappedBatches:
        return self

    def __exit__(self, *error: object) -> None:
        self._batches.__exit__(*error)

    def __next__(self) -> Any:
        if self._number == 0:
            self._act()
        self._number -= 1
        return next(self._batches)


def send_sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)
