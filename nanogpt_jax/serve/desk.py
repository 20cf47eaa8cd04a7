"""Whose turn it is to look inside, how much may be asked at once, and what it costs.

One inspection runs at a time, in a thread; a few wait. What would be too much is refused from its
sizes, before a model runs. Which questions there are, this file does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from starlette.concurrency import run_in_threadpool

from nanogpt_jax.serve.asgi import Refusal
from nanogpt_jax.serve.limits import Buckets, Caps
from nanogpt_jax.serve.service import Served, Service

MOST_WAITING = 4
BUSY_SECONDS = 2
# A small answer can need much more than its size while it is made, and long.
MOST_HELD_BYTES = 100_000_000
MOST_FLOPS = 4 * 10**12  # about a minute of two CPU cores
# Requests that inspections count as: the longest one, and any of them beside what it takes. To look
# at a prompt at every checkpoint of a run takes seventy.
DEAREST = 10
CHEAPEST = 0.1

Result = TypeVar("Result")


class Turns:
    """One at a time; a few wait, and who comes then is refused at once. For one event loop."""

    def __init__(self, most_waiting: int):
        self._lock = asyncio.Lock()
        self._room = 1 + most_waiting
        self._present = 0

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """A place for as long as the block lasts, or Refusal."""
        if self._present >= self._room:
            raise Refusal(
                503,
                "inspection_busy",
                f"{self._present} inspections are under way or waiting; come back later",
                retry_after_seconds=BUSY_SECONDS,
            )
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, in a thread; who is cancelled drops it, and it keeps its turn."""
        await self._lock.acquire()
        # A task of its own, because a thread cannot be cancelled and must not meet a second one.
        working = asyncio.ensure_future(run_in_threadpool(work))
        working.add_done_callback(lambda _: self._lock.release())
        return await asyncio.shield(working)


class Cost(NamedTuple):
    """The most that an inspection answers with, about what it holds meanwhile, and its work."""

    size_bytes: int
    held_bytes: int
    flops: int

    @property
    def requests(self) -> float:
        """How many requests of a client it counts as."""
        return CHEAPEST + self.size_bytes / 2**20 + DEAREST * self.flops / MOST_FLOPS

    def require_bounded(self, max_bytes: int, remedy: str) -> None:
        """Refuses what is too much of anything; `remedy` makes an answer smaller."""
        if self.size_bytes > max_bytes:
            raise Refusal(
                413,
                "payload_too_large",
                f"the answer may take {self.size_bytes} bytes, {max_bytes} are allowed; {remedy}",
                bytes=self.size_bytes,
                max_bytes=max_bytes,
            )
        if self.held_bytes > MOST_HELD_BYTES:
            raise Refusal(
                413,
                "inspection_too_large",
                f"it takes {self.held_bytes} bytes of memory, {MOST_HELD_BYTES} are allowed; "
                "shorten the prompt",
                held_bytes=self.held_bytes,
                max_held_bytes=MOST_HELD_BYTES,
            )
        if self.flops > MOST_FLOPS:
            raise Refusal(
                413,
                "inspection_too_long",
                f"it takes {self.flops} operations, {MOST_FLOPS} are allowed; shorten the prompt",
                flops=self.flops,
                max_flops=MOST_FLOPS,
            )


class Desk:
    """What the questions to one server share: caps, turns, and a bucket for each client."""

    def __init__(self, caps: Caps):
        self.caps = caps
        self._turns = Turns(MOST_WAITING)
        self._buckets = Buckets(caps.rate, caps.burst)

    @contextlib.contextmanager
    def admit(self, service: Service) -> Iterator[Served]:
        """A place for a question about what is served now; Refusal where there is none."""
        with self._turns.enter():
            served = service.current()
            if served.engine.state == "draining":
                sentence = "the server is about to end"
                raise Refusal(503, "not_serving", sentence, retry_after_seconds=BUSY_SECONDS)
            yield served

    async def answer(self, client: str, cost: Cost, work: Callable[[], Result]) -> Result:
        """What `work` returns when its turn has come; Refusal for who has asked too much."""
        if seconds := self._buckets.take(client, cost.requests):
            sentence = f"too many inspections; come back in {seconds} seconds"
            raise Refusal(429, "rate_limited", sentence, retry_after_seconds=seconds)
        return await self._turns.run(work)
