"""Hours of mixed traffic in small: a server that is asked for long stays as it is.

Of 20 requests 14 generate, 4 stream (2 leave before the end), 1 looks at attention and 1 is wrong.
What a few seconds cannot show, a slope of memory, is asked of the longer runs alone.
"""

from __future__ import annotations

import collections
import http.client
import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.serve.process import PROMPT, Process, started

CLIENTS = 3
WARM_UP = 0.2  # the share of the requests after which nothing may change
SETTLE_SECONDS = 10.0
MOST_GROWTH = 0.05
MOST_BYTES_PER_REQUEST = 1000.0
PROMPTS = [PROMPT[:length] for length in (1, 5, 9, 14)]
WRONG: list[dict[str, Any]] = [
    {"prompt": "", "max_tokens": 5, "temperature": 1.0},
    {"prompt": "1", "max_tokens": 10**9, "temperature": 1.0},
    {"prompt": "1", "max_tokens": "5", "temperature": 1.0},
    {"prompt": "1", "max_tokens": 5, "temperature": 1.0, "unknown": 1},
]
MIX = ["generate"] * 14 + ["stream"] * 2 + ["leave"] * 2 + ["attention", "wrong"]
EXPECTED = {"generate": {200}, "stream": {200}, "leave": {200}, "attention": {200}}
EXPECTED["wrong"] = {400, 422}


class Reading(NamedTuple):
    """What the server said of itself after so many requests."""

    requests: int
    resident_bytes: float
    open_files: float
    threads: float
    compiled_programs: float


class Traffic:
    """A few clients that ask without a pause; `statuses` counts what they were told."""

    def __init__(self, process: Process):
        self.statuses: collections.Counter[tuple[str, int]] = collections.Counter()
        self._process, self._model = process, process.model()
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._failures: list[Exception] = []
        self._threads: list[threading.Thread] = []

    @property
    def requests(self) -> int:
        """How many were answered."""
        return self.statuses.total()

    @property
    def goes_on(self) -> bool:
        """Whether any client still asks."""
        return any(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Begins to ask."""
        self._stop.clear()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends when all are answered; raises what a client met but an answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _ask_on(self) -> None:
        try:
            while not self._stop.is_set():
                self._ask(next(self._numbers))
        except (OSError, http.client.HTTPException) as error:
            self._failures.append(error)

    def _ask(self, number: int) -> None:
        # 7 has no divisor in common with 20, so that all kinds come soon, and mixed.
        kind, prompt = MIX[number * 7 % len(MIX)], PROMPTS[number % len(PROMPTS)]
        path, body = self._question(kind, prompt, number)
        with self._process.begin("POST", path, body) as answer:
            self.statuses[kind, answer.status] += 1
            if kind == "leave":
                answer.read(20)
            else:
                whole = answer.read()
                if kind == "stream" and answer.status == 200:
                    assert whole.endswith(b"data: [DONE]\n\n")

    def _question(self, kind: str, prompt: str, number: int) -> tuple[str, dict[str, Any]]:
        if kind == "wrong":
            return "/api/generate", WRONG[number % len(WRONG)]
        if kind == "attention":
            return "/api/inspect/attention", {"prompt": prompt}
        if kind == "generate":
            return "/api/generate", {"prompt": prompt, "max_tokens": 12, "temperature": 1.0}
        asked = {"model": self._model, "prompt": prompt, "max_tokens": 30, "temperature": 0}
        return "/v1/completions", {**asked, "stream": True}


class Soaked(NamedTuple):
    """What was read before and after, when nobody asked, and meanwhile."""

    before: Reading
    after: Reading
    meanwhile: list[Reading]
    statuses: collections.Counter[tuple[str, int]]


def read(process: Process, requests: int) -> Reading:
    """What the server says of itself now."""
    numbers = process.numbers()
    numbers["compiled_programs"] = numbers["compiled_programs_total"]
    return Reading(requests, *(numbers[name] for name in Reading._fields[1:]))


def settle(process: Process, requests: int) -> Reading:
    """The reading when all slots are free and no more connections close, or late."""
    deadline = time.monotonic() + SETTLE_SECONDS
    files = -1.0
    while True:
        found = read(process, requests)
        idle = process.numbers()["active_generations"] == 0
        if (idle and found.open_files == files) or time.monotonic() > deadline:
            return found
        files = found.open_files
        time.sleep(0.3)


def soak(workdir: Path, seconds: float, every_seconds: float) -> Soaked:
    """Asks a server for `seconds`, of which the first do not count."""
    with started(f"--workdir={workdir}", "--rate=0") as process:
        traffic = Traffic(process)
        traffic.start()
        time.sleep(WARM_UP * seconds)
        while traffic.requests < len(MIX) and traffic.goes_on:  # of every kind once
            time.sleep(0.1)
        traffic.stop()
        before = settle(process, traffic.requests)
        traffic.start()
        meanwhile = []
        deadline = time.monotonic() + (1 - WARM_UP) * seconds
        while time.monotonic() < deadline:
            time.sleep(every_seconds)
            meanwhile.append(read(process, traffic.requests))
        traffic.stop()
        after = settle(process, traffic.requests)
        assert process.ask("/ready")[0] == 200
    return Soaked(before, after, meanwhile, traffic.statuses)


def check(soaked: Soaked) -> None:
    """What holds after any time."""
    before, after, meanwhile, statuses = soaked
    assert {kind for kind, _ in statuses} == {*MIX}
    for kind, status in statuses:
        assert status in EXPECTED[kind] | {503}, statuses
    refused = sum(count for (_, status), count in statuses.items() if status == 503)
    assert refused <= 0.01 * statuses.total()
    assert after.compiled_programs == before.compiled_programs
    assert after.open_files == before.open_files
    # A pool may still grow to the number of those who ask at once.
    assert after.threads <= before.threads + CLIENTS
    most = max(each.resident_bytes for each in meanwhile)
    assert most < (1 + MOST_GROWTH) * before.resident_bytes


def report(soaked: Soaked, seconds: float) -> tuple[float, float]:
    """Prints the numbers; bytes and threads per request, by a linear fit."""
    before, after, meanwhile, _ = soaked
    asked = [each.requests for each in meanwhile]
    of_bytes = slope(asked, [each.resident_bytes for each in meanwhile])
    of_threads = slope(asked, [each.threads for each in meanwhile])
    grown = after.resident_bytes / before.resident_bytes - 1
    print(f"{after.requests} requests in {seconds:.0f} s, statuses {dict(soaked.statuses)}")
    print(f"memory {of_bytes / 1000:+.3f} MB per 1000 requests, {grown:+.2%} in total")
    print(f"files {before.open_files:.0f} -> {after.open_files:.0f}", end=", ")
    print(f"threads {before.threads:.0f} -> {after.threads:.0f}", end=", ")
    print(f"programs {before.compiled_programs:.0f} -> {after.compiled_programs:.0f}")
    return of_bytes, of_threads


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of the straight line through the points."""
    return statistics.linear_regression(xs, ys).slope


@pytest.mark.brief
def test_some_seconds_of_mixed_traffic_leave_the_server_as_it_was(workdir: Path):
    soaked = soak(workdir, seconds=10, every_seconds=1)
    report(soaked, seconds=10)
    check(soaked)


@pytest.mark.parametrize(
    ("minutes", "every_seconds"),
    [
        pytest.param(2, 2, marks=pytest.mark.slow, id="two minutes"),
        pytest.param(30, 10, marks=pytest.mark.sweep, id="thirty minutes"),
    ],
)
def test_memory_has_no_slope(workdir: Path, minutes: int, every_seconds: float):
    soaked = soak(workdir, 60 * minutes, every_seconds)
    bytes_per_request, threads_per_request = report(soaked, 60 * minutes)
    check(soaked)
    assert bytes_per_request < MOST_BYTES_PER_REQUEST
    assert threads_per_request * soaked.after.requests < 1
