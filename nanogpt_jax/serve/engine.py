"""The one thread that owns the batch: requests come in, tokens go out, nobody waits for nobody.

Every step gives each slot a token. Between two steps one request begins, so that neither a long
queue nor a long prompt holds up those that are under way. Slots are shared fairly among clients:
who has the fewest is served next, and a client without one takes a slot from whoever holds most;
what was taken goes on later, token for token.

No HTTP, no text and no clock but for the telling of a stall.
"""

from __future__ import annotations

import collections
import math
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from nanogpt_jax.errors import NanogptError
from nanogpt_jax.serve.turns import Finish, Listener, Ticket, Turns, to_suspend
from nanogpt_jax.slots import Progress, Request, Slots

State = Literal["loading", "ready", "draining", "stalled", "dead"]

# The share of the newest request in the mean that Retry-After is made of.
SMOOTHING = 0.1


class QueueFull(NanogptError):
    """As many requests wait as may; `retry_after_seconds` says when one is likely to begin."""

    def __init__(self, retry_after_seconds: int):
        super().__init__(f"the queue is full; try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class NotServing(NanogptError):
    """The engine is loading, draining or dead."""


class Stats(NamedTuple):
    """What the engine does now, and what it has done since it began."""

    active: int
    queued: int
    free_slots: int
    tokens: int
    finished: int
    cancelled: int
    steps: int
    drafted: int
    accepted: int


class Engine:
    """Serves requests with `slots`, of which nobody else may know."""

    def __init__(
        self,
        slots: Slots,
        *,
        queue_length: int = 16,
        stall_seconds: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._slots = slots
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._changed = threading.Condition()
        # All below is read and written under `_changed`, but for `_slots`, which is the thread's.
        self._waiting = Turns(queue_length)
        self._active: dict[int, Ticket] = {}
        self._beginning: Ticket | None = None
        self._warm = self._draining = self._closing = self._dead = False
        self._busy_since: float | None = None
        self._request_seconds = 1.0
        self._tokens = self._finished = self._cancelled = self._steps = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begins to load; `state` says when requests are welcome."""
        self._thread.start()

    @property
    def state(self) -> State:
        """`ready` once a token was made, and as long as the thread lives and gets on."""
        with self._changed:
            if self._dead:
                return "dead"
            if self._draining:
                return "draining"
            if not self._warm:
                return "loading"
            since = self._busy_since
            stalled = since is not None and self._clock() - since > self._stall_seconds
            return "stalled" if stalled else "ready"

    def stats(self) -> Stats:
        """Numbers for a dashboard."""
        with self._changed:
            active = len(self._active) + (self._beginning is not None)
            return Stats(
                active,
                len(self._waiting),
                self._slots.count - active,
                self._tokens,
                self._finished,
                self._cancelled,
                self._steps,
                self._slots.drafted,
                self._slots.accepted,
            )

    def submit(self, request: Request, listener: Listener, *, client: str) -> Ticket:
        """Takes a request in. Raises QueueFull, or NotServing before it is ready and when it ends.

        One client may fill half of the queue. ValueError for what no slot can begin.
        """
        self._slots.check(request)
        with self._changed:  # so that nobody comes after all were told of the end
            self.check_room(client)
            ticket = Ticket(request, listener, client, self._clock())
            self._waiting.add(ticket)
            self._changed.notify_all()
        return ticket

    def check_room(self, client: str) -> None:
        """Raises what `submit` would at this moment, whatever the request."""
        with self._changed:
            if (state := self.state) not in ("ready", "stalled"):
                raise NotServing(f"the engine is {state}; try again later")
            if self._waiting.is_full(client):
                raise QueueFull(self._retry_after())

    def busy_seconds(self) -> int:
        """After how many seconds whoever waits is likely to have begun."""
        with self._changed:
            return self._retry_after()

    def cancel(self, ticket: Ticket) -> None:
        """Ends a request within one step; nothing happens to one that has ended."""
        with self._changed:
            ticket.cancelled = True
            self._changed.notify_all()

    def drain(self, deadline_seconds: float) -> bool:
        """Takes in nothing more and waits for what is under way, at most so long.

        Whoever is left then hears `abort`. Whether all came to their own end.
        """
        with self._changed:
            self._draining = True
            done = self._changed.wait_for(lambda: self._idle() or self._dead, deadline_seconds)
        if not done:
            self._end_all("abort")
        return done

    def close(self, wait_seconds: float = 5.0) -> None:
        """Ends the thread; who is left hears `abort`."""
        with self._changed:
            self._draining = self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)
        self._end_all("abort")

    def _run(self) -> None:
        try:
            self._slots.warm_up()
            with self._changed:
                self._warm = True
                self._changed.notify_all()
            while self._wait_for_work():
                self._drop_cancelled()
                self._begin_one()
                self._step()
        finally:
            # What was raised goes on to threading.excepthook; here everybody is told.
            with self._changed:
                self._dead = True
                self._changed.notify_all()
            self._end_all("abort" if self._closing else "error")

    def _wait_for_work(self) -> bool:
        """Whether there is something to do; False when the engine closes."""
        with self._changed:
            self._busy_since = None
            self._changed.wait_for(lambda: self._closing or not self._idle())
            self._busy_since = self._clock()
            return not self._closing

    def _begin_one(self) -> None:
        """Begins the request that is next in turn, if it can have a slot."""
        with self._changed:
            held = collections.Counter(ticket.client for ticket in self._active.values())
            ticket = self._waiting.next(held)
            if ticket is None:
                return
            if not self._slots.free:
                slot = to_suspend(self._active, ticket.client)
                if slot is None:
                    return
                other = self._active.pop(slot)
                other.suspended = self._slots.suspend(slot)
                self._waiting.put_back(other)
            self._waiting.remove(ticket)
            self._beginning = ticket
        if ticket.suspended is not None:
            slot, progress = self._slots.resume(ticket.suspended), Progress([], None)
            ticket.suspended = None
        else:
            slot, progress = self._slots.begin(ticket.request)
        with self._changed:
            wanted, self._beginning = self._beginning is ticket, None
            if wanted:
                self._active[slot] = ticket
        self._tell(slot, progress)

    def _step(self) -> None:
        if not self._active:
            return
        for slot, progress in self._slots.step().items():
            self._tell(slot, progress)
        with self._changed:
            self._steps += 1
            self._busy_since = self._clock()

    def _tell(self, slot: int, progress: Progress) -> None:
        """Hands over what a slot has drawn, and lets the request go when that is enough."""
        ticket = self._active.get(slot)
        if ticket is None:  # `_end_all` was faster
            return
        reason: Finish | None = progress.finish
        told = 0
        for drawn in progress.drawn:
            told += 1
            if not ticket.listener.draw(drawn):
                reason = "stop"
                break
        with self._changed:
            self._tokens += told
        if reason:
            if progress.finish is None:
                self._slots.close(slot)
            self._end(slot, reason)

    def _drop_cancelled(self) -> None:
        with self._changed:
            gone = [slot for slot, ticket in self._active.items() if ticket.cancelled]
            left = [ticket for ticket in self._waiting if ticket.cancelled]
            for ticket in left:
                self._waiting.remove(ticket)
            self._cancelled += len(left)
        for ticket in left:
            ticket.listener.finish("cancelled")
        for slot in gone:
            self._slots.close(slot)
            self._end(slot, "cancelled")
        if left:
            with self._changed:
                self._changed.notify_all()

    def _end(self, slot: int, reason: Finish) -> None:
        with self._changed:
            ticket = self._active.pop(slot, None)
            if ticket is None:
                return
            if reason == "cancelled":
                self._cancelled += 1
            else:
                self._finished += 1
                seconds = self._clock() - ticket.submitted
                self._request_seconds += SMOOTHING * (seconds - self._request_seconds)
        ticket.listener.finish(reason)
        with self._changed:
            self._changed.notify_all()

    def _end_all(self, reason: Finish) -> None:
        """Lets everybody go, from whatever thread."""
        with self._changed:
            left = [*self._active.values(), *self._waiting]
            if self._beginning is not None:
                left.append(self._beginning)
            for ticket in left:
                ticket.cancelled = True
            self._active.clear()
            for ticket in [*self._waiting]:
                self._waiting.remove(ticket)
            self._beginning = None
            self._changed.notify_all()
        for ticket in left:
            ticket.listener.finish(reason)

    def _idle(self) -> bool:
        return not self._active and not len(self._waiting) and self._beginning is None

    def _retry_after(self) -> int:
        waiting = len(self._waiting) + len(self._active)
        return max(1, math.ceil(waiting * self._request_seconds / max(self._slots.count, 1)))
