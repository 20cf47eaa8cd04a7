"""The command as a process: it says when it is ready, drains, and says clearly why it cannot."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax import cli
from nanogpt_jax.errors import ConfigError, ExitCode, NoCheckpoint
from nanogpt_jax.serve.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
PROMPT = "17 times 4 is "


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def run(*words: str) -> object:
    return cli.bind(main, words)()


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANOGPT_JAX_API_KEYS", raising=False)


def test_a_server_for_the_network_needs_keys(tmp_path: Path):
    with pytest.raises(ConfigError, match="needs API keys: set NANOGPT_JAX_API_KEYS"):
        run(f"--workdir={tmp_path}", "--host=0.0.0.0")


def test_an_address_in_use_is_told_before_anything_is_loaded(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="in use"):
            run(f"--workdir={tmp_path / 'no run'}", f"--port={port}")


def test_a_step_is_not_followed(tmp_path: Path):
    with pytest.raises(ConfigError, match="--reload follows the newest checkpoint: leave out"):
        run(f"--workdir={tmp_path}", "--reload", "--step=3")


def test_caps_are_flags():
    with pytest.raises(ConfigError, match="--slots='many': a value of type int is required"):
        run("--workdir=x", "--slots=many")


@pytest.mark.slow  # loads jax, as all below
def test_caps_may_come_from_the_environment_and_are_checked_alike():
    words = [sys.executable, "-m", "nanogpt_jax.serve", "--workdir=nothing"]
    environment = os.environ | {"NANOGPT_JAX_SLOTS": "many", "NANOGPT_JAX_RATE": "-1"}
    ended = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert ended.returncode == ExitCode.USAGE
    assert ended.stderr.splitlines() == [
        "error: --rate=-1.0 must be at least 0",
        "error: --slots='many': a value of type int is required",
    ]


class Process:
    """The command under way, with what it wrote."""

    def __init__(self, *words: str, wait: bool = True, **environment: str):
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "nanogpt_jax.serve", "--port=0", *words],
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

    def model(self) -> str:
        """The name by which the served model is asked for."""
        return json.loads(self.ask("/v1/models")[1])["data"][0]["id"]


@contextlib.contextmanager
def started(*words: str, wait: bool = True, **environment: str) -> Iterator[Process]:
    """The command, ready if it is waited for."""
    process = Process(*words, wait=wait, **environment)
    try:
        yield process
    finally:
        process.popen.kill()
        process.end()
        for stream in (process.popen.stdout, process.popen.stderr):
            assert stream is not None
            stream.close()


@pytest.mark.slow
def test_streams_under_way_end_before_the_server_does(workdir: Path):
    with started(f"--workdir={workdir}") as process:
        assert process.line.startswith(f"serving {workdir.name} step 6 on http://127.0.0.1:")
        assert process.line.endswith(" (docs at /docs)\n")
        assert process.ask("/ready")[0] == 200
        streams = [process.generate(max_tokens=40) for _ in range(8)]
        assert {stream.status for stream in streams} == {200}
        process.popen.send_signal(signal.SIGTERM)
        for stream in streams:
            with stream:
                assert stream.read().endswith(b"data: [DONE]\n\n")
        assert process.end() == ExitCode.DONE
    requests = [line for line in process.log if " POST /v1/completions 200 " in line]
    assert len(requests) == len(streams)
    assert str(workdir) not in "".join(process.log) and PROMPT not in "".join(process.log)


@pytest.mark.slow
def test_a_draining_server_is_not_ready_refuses_what_is_new_and_keeps_its_deadline(workdir: Path):
    endless = {"prompt": PROMPT, "max_tokens": 1_000_000, "temperature": 1.0}
    words = ("--drain_seconds=3", "--max_tokens=1000000", "--rate=0")
    with started(f"--workdir={workdir}", *words) as process, ThreadPoolExecutor(8) as pool:
        held = [pool.submit(process.begin, "POST", "/api/generate", endless) for _ in range(8)]
        while b"nanogpt_jax_free_slots 0.0" not in process.ask("/metrics")[1]:
            time.sleep(0.02)
        process.popen.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        while (probed := process.ask("/ready"))[0] == 200:
            assert time.monotonic() - signalled < 1
        assert json.loads(probed[1]) == {"state": "draining"}
        assert process.ask("/health")[0] == 200
        with process.generate(max_tokens=1) as refused:
            assert refused.status == 503 and refused.headers["retry-after"]
        for answer in held:
            with answer.result() as aborted:
                assert aborted.status in (200, 503)
        assert process.end() == ExitCode.DONE
        assert 3 <= time.monotonic() - signalled < 8


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_still_loads_ends_at_once(workdir: Path, number: signal.Signals):
    port = free_port()
    words = (f"--workdir={workdir}", f"--port={port}", f"--draft={workdir}")
    with started(*words, wait=False) as process:
        process.port = port
        state: object = None
        while state is None:
            with contextlib.suppress(ConnectionError):
                state = json.loads(process.ask("/ready")[1])
        assert state == {"state": "loading"}
        process.popen.send_signal(number)
        assert process.end() == ExitCode.DONE


@pytest.mark.slow
def test_keys_come_from_the_environment_and_open_everything_but_the_probes(workdir: Path):
    with started(f"--workdir={workdir}", NANOGPT_JAX_API_KEYS="one, two") as process:
        for path in ("/metrics", "/docs", "/openapi.json", "/v1/models", "/api/info", "/nothing"):
            assert process.ask(path)[0] == 401, path
            assert process.ask(path, authorization="Bearer two")[0] != 401, path
        assert process.ask("/health")[0] == process.ask("/ready")[0] == 200
        assert process.ask("/health", host="evil.example")[0] == 421


def test_latest_needs_a_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nanogpt_jax.serve.journal.install", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(NoCheckpoint, match="--latest needs a folder of run directories"):
        run(f"--workdir={tmp_path}", "--port=0", "--latest")
