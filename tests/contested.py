"""Work for the tests of bench/contest.py, done in processes of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def note(*, name: str, log: str) -> Callable[[], Mapping[str, Any]]:
    """A round writes its name to a file, and to stdout what nobody shall take for an answer."""
    rounds = 0

    def work() -> Mapping[str, Any]:
        nonlocal rounds
        rounds += 1
        with Path(log).open("a") as file:
            file.write(name)
        print("a library says something")
        return {"rounds": rounds}

    return work


def fail(*, late: bool) -> Callable[[], Mapping[str, Any]]:
    """Raises, at once or in the second round."""
    rounds = 0

    def work() -> Mapping[str, Any]:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            raise MemoryError("no room for the second round")
        return {}

    if not late:
        raise MemoryError("no room at all")
    return work
