"""What a dashboard counts: requests, generations, time per token, compiled programs, resources.

A registry of its own, so that nothing of this machine but these numbers is told. What the engine
and the process know is read when somebody asks; the rest is counted as it happens.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPMethod
from pathlib import Path

import jax
import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nanogpt_jax.serve.engine import Engine, Finish, Listener
from nanogpt_jax.slots import Drawn

COMPILED = "/jax/core/compile/backend_compile_duration"
FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
TOKEN_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
METHODS = frozenset(HTTPMethod)
PROCESS = Path("/proc/self")


class Metrics:
    """The numbers of one server; `engine` gives the engine that serves now."""

    def __init__(self, engine: Callable[[], Engine]):
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(_Readings(engine))
        self._requests = prometheus_client.Counter(
            "nanogpt_jax_requests",
            "requests that were answered",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._first_token_seconds = prometheus_client.Histogram(
            "nanogpt_jax_first_token_seconds",
            "from a generation's admission to its first token",
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self._registry,
        )
        self._token_seconds = prometheus_client.Histogram(
            "nanogpt_jax_token_seconds",
            "between two tokens of a generation",
            buckets=TOKEN_BUCKETS,
            registry=self._registry,
        )
        count_programs()  # from now on

    def count_request(self, method: str, route: str, status: int) -> None:
        """Counts an answer; a method of the client's own invention has no line of its own."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()

    def time_tokens(self, listener: Listener, clock: Callable[[], float] = time.monotonic) -> Timed:
        """`listener`, whose tokens are timed from now on."""
        return Timed(
            listener, self._first_token_seconds.observe, self._token_seconds.observe, clock
        )

    def render(self) -> bytes:
        """The numbers in Prometheus' text form."""
        return prometheus_client.generate_latest(self._registry)


class Timed:
    """A listener that tells when tokens come, and another what they are."""

    def __init__(
        self,
        listener: Listener,
        first: Callable[[float], None],
        following: Callable[[float], None],
        clock: Callable[[], float],
    ):
        self._listener, self._clock = listener, clock
        self._observe, self._following = first, following
        self._since = clock()

    def draw(self, drawn: Drawn) -> bool:
        """Times a token and hands it on."""
        now = self._clock()
        self._observe(now - self._since)
        self._observe, self._since = self._following, now
        return self._listener.draw(drawn)

    def finish(self, reason: Finish) -> None:
        """Hands the end on."""
        self._listener.finish(reason)


class _Readings(Collector):
    """What is read when somebody asks."""

    def __init__(self, engine: Callable[[], Engine]):
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Gauges are what is so now, counters what the engine that serves now has done."""
        engine = self._engine()
        stats = engine.stats()
        for name, meaning, value in (
            ("ready", "1 while requests are served", engine.state == "ready"),
            ("active_generations", "generations that have a slot", stats.active),
            ("queue_depth", "generations that wait for a slot", stats.queued),
            ("free_slots", "slots that nobody has", stats.free_slots),
            *_process(),
        ):
            yield GaugeMetricFamily(f"nanogpt_jax_{name}", meaning, value=float(value))
        for name, meaning, value in (
            ("generated_tokens", "tokens that were handed out", stats.tokens),
            ("finished_generations", "generations that came to an end", stats.finished),
            ("cancelled_generations", "generations whose client left", stats.cancelled),
            ("steps", "steps of the whole batch", stats.steps),
            ("drafted_tokens", "tokens that speculation proposed", stats.drafted),
            ("accepted_tokens", "proposed tokens that were kept", stats.accepted),
            ("compiled_programs", "programs that XLA has compiled", count_programs()),
        ):
            yield CounterMetricFamily(f"nanogpt_jax_{name}", meaning, value=value)


def _process() -> Iterator[tuple[str, str, int]]:
    """Resources of this process, where the system tells them as Linux does."""
    if PROCESS.is_dir():
        pages = int((PROCESS / "statm").read_text().split()[1])
        yield "resident_bytes", "memory of the process", pages * os.sysconf("SC_PAGE_SIZE")
        yield "open_files", "file descriptors", len(os.listdir(PROCESS / "fd"))
        yield "threads", "threads of the process", len(os.listdir(PROCESS / "task"))


class _Programs:
    """Hears of every program that is compiled in this process, in whatever thread."""

    def __init__(self):
        self.count = 0
        self._lock = threading.Lock()
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **_: str | int) -> None:
        del duration_secs
        if event == COMPILED:
            with self._lock:
                self.count += 1


@functools.cache
def _programs() -> _Programs:
    return _Programs()


def count_programs() -> int:
    """The programs that were compiled since the first call, by whoever."""
    return _programs().count
