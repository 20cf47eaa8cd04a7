"""The command in a process of its own, as whoever starts a server has it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

# The command, after what is put into the braces.
CHANGED = """
import runpy, sys
{}
sys.argv = ["serve", *sys.argv[1:]]
runpy.run_module("nanogpt_jax.serve", run_name="__main__")
"""
REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = "nanogpt_jax.serve"
PROMPT = "17 times 4 is "


def command(changes: str = "") -> list[str]:
    """The words that start the command, of which a program has changed something before."""
    return [sys.executable, *(("-c", CHANGED.format(changes)) if changes else ("-m", MODULE))]


class Process:
    """The command under way, with what it wrote."""

    def __init__(self, *words: str, wait: bool = True, changes: str = "", **environment: str):
        self.popen = subprocess.Popen(
            [*command(changes), "--port=0", *words],
            cwd=REPOSITORY,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self.popen.stdout is not None
        self.line = self.popen.stdout.readline() if wait else ""
        found = re.search(r"http://127\.0\.0\.1:(\d+) ", self.line)
        self.port = int(found[1]) if found else 0

    def _read(self) -> None:
        assert self.popen.stderr is not None
        self.log += self.popen.stderr

    def end(self) -> int:
        """The exit code, once the process has ended and all it wrote is read."""
        code = self.popen.wait(25)
        self._reader.join()
        return code

    def begin(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> http.client.HTTPResponse:
        """The beginning of an answer, on a connection that ends with it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers |= {"content-type": "application/json", "connection": "close"}
        connection.request(method, path, body and json.dumps(body), headers)
        return connection.getresponse()

    def ask(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of a whole answer."""
        with self.begin("GET", path, **headers) as answer:
            return answer.status, answer.read()

    def generate(self, max_tokens: int) -> http.client.HTTPResponse:
        """The beginning of a stream of tokens."""
        form = {"model": self.model(), "prompt": PROMPT, "max_tokens": max_tokens, "stream": True}
        return self.begin("POST", "/v1/completions", form)

    def numbers(self) -> dict[str, float]:
        """What /metrics tells, by name; of numbers with labels the sum."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.ask("/metrics")[1].decode()):
            for sample in family.samples:
                name = sample.name.removeprefix("nanogpt_jax_")
                found[name] = found.get(name, 0) + sample.value
        return found

    def model(self) -> str:
        """The name by which the served model is asked for."""
        return json.loads(self.ask("/v1/models")[1])["data"][0]["id"]


@contextlib.contextmanager
def started(
    *words: str, wait: bool = True, changes: str = "", **environment: str
) -> Iterator[Process]:
    """The command, ready if it is waited for."""
    process = Process(*words, wait=wait, changes=changes, **environment)
    try:
        yield process
    finally:
        process.popen.kill()
        process.end()
        for stream in (process.popen.stdout, process.popen.stderr):
            assert stream is not None
            stream.close()
