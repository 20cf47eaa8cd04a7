"""A client that asks a server for streams of text, and notes when everything comes.

Either on a timetable, whatever the server does (an open loop: a client that waits for answers
hides the queue), or a fixed number at a time (a closed loop). On sockets alone, so that the client
leaves the machine to the server. What the moments amount to is the business of figures.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HOST = "127.0.0.1"
PATIENCE_SECONDS = 120.0
RETRY_SECONDS = 1.0  # the least that a server asks for
DATA = b"data: "


class Target(NamedTuple):
    """A server of this machine, and the address to ask from, by which it tells its clients."""

    port: int
    source: str = HOST


class Answer(NamedTuple):
    """What came of one request; moments are seconds of one clock.

    `status` is 0 where the answer broke off, or never came. `texts` has the moments at which text
    came, `ended` is that of the last piece, or of the end where nothing was generated; `tokens`
    is what the server counted. `retry_after`: whether a refusal says when to come again.
    """

    status: int
    sent: float
    ended: float
    texts: tuple[float, ...] = ()
    tokens: int = 0
    retry_after: bool = False

    @property
    def ttft_seconds(self) -> float:
        """Time to the first token, connecting included."""
        return (self.texts[0] if self.texts else self.ended) - self.sent

    @property
    def e2e_seconds(self) -> float:
        """Time to the end."""
        return self.ended - self.sent

    @property
    def tpot_seconds(self) -> float | None:
        """Time per token after the first; None where there is no second."""
        if self.tokens < 2:
            return None
        return (self.e2e_seconds - self.ttft_seconds) / (self.tokens - 1)

    @property
    def gaps_seconds(self) -> list[float]:
        """Times between pieces of text."""
        return np.diff(self.texts).tolist()


class Phase(NamedTuple):
    """The answers of one kind of load, from its first request to the end of the last answer.

    `busy` is the client's share of one core. Above 0.8 it measures itself.
    """

    answers: list[Answer]
    started: float
    seconds: float
    busy: float

    def finished_per_second(self, window_seconds: float) -> float:
        """Generations that came to their end within the first `window_seconds`, per second."""
        within = (each.ended <= self.started + window_seconds for each in self.served)
        return sum(within) / window_seconds

    @property
    def served(self) -> list[Answer]:
        """Those that were not refused and did not break."""
        return [each for each in self.answers if each.status == 200]


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """The moments of a Poisson process of `rate` per second: gaps are exponential."""
    rng = np.random.default_rng(seed)
    count = int(rate * seconds + 10 * (rate * seconds) ** 0.5 + 10)  # ten deviations too many
    moments = np.cumsum(rng.exponential(1 / rate, count))
    return moments[moments < seconds].tolist()


async def ask_on_time(target: Target, bodies: Sequence[bytes], moments: Sequence[float]) -> Phase:
    """An open loop: a request at each of `moments`, seconds from now; bodies in order, again."""
    watch, following = _Watch(), itertools.cycle(bodies)
    async with asyncio.TaskGroup() as group:
        asked = []
        for moment in moments:
            await asyncio.sleep(watch.started + moment - time.monotonic())
            asked.append(group.create_task(ask(target, next(following))))
    return watch.phase([each.result() for each in asked])


async def keep_asking(
    target: Target, bodies: Sequence[bytes], workers: int, seconds: float
) -> Phase:
    """A closed loop: `workers` clients of which each asks again once it is answered.

    Who is told to come again later does.
    """
    watch, following, answers = _Watch(), itertools.cycle(bodies), []

    async def work() -> None:
        while time.monotonic() < watch.started + seconds:
            answer = await ask(target, next(following))
            answers.append(answer)
            if answer.retry_after:
                await asyncio.sleep(RETRY_SECONDS)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    return watch.phase(answers)


async def ask(target: Target, body: bytes) -> Answer:
    """One request to /v1/completions on a connection of its own."""
    sent = time.monotonic()
    # An answer to HTTP/1.0 has no chunks to be put together: it ends when the connection does.
    head = (
        f"POST /v1/completions HTTP/1.0\r\nHost: {HOST}:{target.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(
                HOST, target.port, local_addr=(target.source, 0)
            )
            try:
                writer.write(head.encode() + body)
                return await _read(reader, sent)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except OSError:  # a timeout is one
        return Answer(0, sent, time.monotonic())


async def _read(reader: asyncio.StreamReader, sent: float) -> Answer:
    """The answer that comes, up to its end."""
    words = (await reader.readline()).split()
    status = int(words[1]) if len(words) > 1 else 0
    retry_after = False
    while line := (await reader.readline()).strip():
        retry_after |= line.lower().startswith(b"retry-after:")
    texts: list[float] = []
    ended, tokens, whole = None, 0, False
    async for line in reader:
        moment = time.monotonic()
        if not line.startswith(DATA):
            continue
        if line.startswith(b"[DONE]", len(DATA)):
            whole = True
            break
        event = json.loads(line[len(DATA) :])
        for choice in event.get("choices", ()):
            ended = moment
            if choice["text"]:
                texts.append(moment)
        if event.get("usage"):
            tokens = event["usage"]["completion_tokens"]
    if status == 200 and not whole:
        status = 0
    return Answer(status, sent, ended or time.monotonic(), tuple(texts), tokens, retry_after)


class _Watch:
    """When a phase began, and what the client has worked since."""

    def __init__(self):
        self.started = time.monotonic()
        self._worked = time.process_time()

    def phase(self, answers: list[Answer]) -> Phase:
        ended = max((each.ended for each in answers), default=time.monotonic())
        seconds = ended - self.started
        worked = time.process_time() - self._worked
        return Phase(answers, self.started, seconds, worked / max(seconds, 1e-9))
