"""Whose turn it is: a bounded queue that is fair to clients, not to requests.

Plain books, without a lock and without a clock: the engine holds both.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

from nanogpt_jax.slots import Drawn, Request, Suspended

Finish = Literal["stop", "length", "abort", "cancelled", "error"]


class Listener(Protocol):
    """Who hears what a request draws: in the engine's thread, so without waiting for anything."""

    def draw(self, drawn: Drawn) -> bool:
        """Whether more is wanted; if not, the request ends with `stop`."""
        ...

    def finish(self, reason: Finish) -> None:
        """The end, told once. `abort`: the engine had to stop; `error`: it failed."""
        ...


@dataclasses.dataclass(eq=False)
class Ticket:
    """A request that was taken in."""

    request: Request
    listener: Listener
    client: str
    submitted: float
    suspended: Suspended | None = None
    cancelled: bool = False


def share_of_one(length: int) -> int:
    """How many places of a queue one client may take: half of them, and at least one."""
    return max(length // 2, 1)


class Turns:
    """Requests that wait, each client's in a line of its own."""

    def __init__(self, length: int):
        self._length = length
        self._lines: dict[str, collections.deque[Ticket]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[Ticket]:
        for line in self._lines.values():
            yield from line

    def is_full(self, client: str) -> bool:
        """Whether `client` may add no more."""
        own = len(self._lines.get(client, ()))
        return len(self) >= self._length or own >= share_of_one(self._length)

    def add(self, ticket: Ticket) -> None:
        """At the end of its client's line."""
        self._lines.setdefault(ticket.client, collections.deque()).append(ticket)

    def put_back(self, ticket: Ticket) -> None:
        """At the front of it, bounded or not."""
        self._lines.setdefault(ticket.client, collections.deque()).appendleft(ticket)

    def remove(self, ticket: Ticket) -> None:
        """Takes a ticket out of its line."""
        line = self._lines[ticket.client]
        line.remove(ticket)
        if not line:
            del self._lines[ticket.client]

    def next(self, held: Mapping[str, int]) -> Ticket | None:
        """The first of the client that holds the fewest slots, and of equals has waited longest."""
        first = (line[0] for line in self._lines.values())
        return min(first, key=lambda each: (held.get(each.client, 0), each.submitted), default=None)


def to_suspend(active: Mapping[int, Ticket], client: str) -> int | None:
    """The slot that `client`, if it has none, may have: the newest of who holds most.

    None where nobody holds more than one.
    """
    held = collections.Counter(ticket.client for ticket in active.values())
    most = max(held.values(), default=0)
    if held[client] or most < 2:
        return None
    greedy = [slot for slot, ticket in active.items() if held[ticket.client] == most]
    return max(greedy, key=lambda slot: active[slot].submitted)
