"""Contestants that do the same work in turns, each in a process of its own.

While one works the others wait for a line on stdin, so they take no processor time, and what slows
the machine in one round slows all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nanogpt_jax.errors import NanogptError

Found = dict[str, Any]  # of a round: `seconds`, and what else its work counts


class Contestant(NamedTuple):
    """`place` is MODULE:FUNCTION, as worker.py takes it."""

    name: str
    place: str
    arguments: Mapping[str, Any]
    variables: Mapping[str, str] = {}


class _Worker:
    """A contestant under way."""

    def __init__(self, contestant: Contestant, process: subprocess.Popen[str], log: Any):
        self._contestant, self._process, self._log = contestant, process, log

    def hear(self) -> Found:
        """The next line that it says; NanogptError with the end of its log if it ends instead."""
        assert self._process.stdout
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        raise NanogptError(f"{self._contestant.name} ended: {self._log.read()[-2000:].strip()}")

    def work(self) -> Found:
        """One round."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        return self.hear()


def compete(contestants: Sequence[Contestant], rounds: int) -> dict[str, list[Found]]:
    """What every contestant found in every round; one round before all is not counted."""
    with contextlib.ExitStack() as running:
        workers = {each.name: running.enter_context(_started(each)) for each in contestants}
        for worker in workers.values():
            worker.hear()
        for worker in workers.values():
            worker.work()
        found: dict[str, list[Found]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                found[name].append(worker.work())
    return found


@contextlib.contextmanager
def _started(contestant: Contestant) -> Iterator[_Worker]:
    words = ("-m", "nanogpt_jax.bench.worker", contestant.place, json.dumps(contestant.arguments))
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {**contestant.variables},
        ) as process,
    ):
        try:
            yield _Worker(contestant, process, log)
        finally:
            process.kill()
