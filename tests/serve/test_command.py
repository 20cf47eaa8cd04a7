"""The command as a process: it says when it is ready, drains, and says clearly why it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nanogpt_jax import cli
from nanogpt_jax.errors import ConfigError, ExitCode, NoCheckpoint
from nanogpt_jax.serve.__main__ import main
from tests.serve.process import PROMPT, REPOSITORY, started

# The command, which tells where it will listen, and whose model is never done with warming up.
LOADING = """
from nanogpt_jax.serve import lifecycle
from nanogpt_jax.slots import Slots

bind, warm_up = lifecycle.bind, Slots.warm_up

def bind_and_tell(host, port):
    listener = bind(host, port)
    print(lifecycle.address_of(listener), "is taken", flush=True)
    return listener

def warm_up_for_ever(slots):
    while True:
        warm_up(slots)

lifecycle.bind, Slots.warm_up = bind_and_tell, warm_up_for_ever
"""


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


def test_runs_are_in_a_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    for place in ("nothing", "file"):
        with pytest.raises(ConfigError, match=f"--runs=.*{place} is no folder: name one that"):
            run(f"--workdir={tmp_path}", f"--runs={tmp_path / place}")


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
    assert " INFO jax " in process.log[0] and " on cpu: " in process.log[0]
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
        # Within a second, by the probes: a machine that stalls answers none.
        for _ in range(19):
            status, probed = process.ask("/ready")
            if status != 200:
                break
            time.sleep(0.05)
        assert (status, json.loads(probed)) == (503, {"state": "draining"})
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
    with started(f"--workdir={workdir}", f"--draft={workdir}", changes=LOADING) as process:
        state: object = None
        while state is None:
            assert process.popen.poll() is None
            try:
                state = json.loads(process.ask("/ready")[1])
            except ConnectionError:  # it does not listen yet
                time.sleep(0.02)
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


@pytest.mark.slow
def test_runs_of_another_folder_are_looked_at_beside_the_served_one(workdir: Path, shelf: Path):
    question = {"prompt": PROMPT, "run": "seeds/one", "step": 3, "max_tokens": 4}
    with started(f"--workdir={workdir}", f"--runs={shelf}") as process:
        listed = json.loads(process.ask("/api/runs")[1])
        with process.begin("POST", "/api/inspect/text", question) as answer:
            written = json.loads(answer.read())
    assert listed["served"] == workdir.name
    assert {run["name"] for run in listed["runs"]} == {workdir.name, "gpt", "seeds/one", "table"}
    assert (written["step"], len(written["tokens"])) == (3, 4)
    assert str(shelf.parent) not in "".join(process.log)
