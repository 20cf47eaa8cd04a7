"""A server begins, drains and ends in order."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanogpt_jax.errors import ConfigError, ExitCode
from nanogpt_jax.serve.lifecycle import address_of, bind
from tests.serve.live import connect, read_all, read_until

REPOSITORY = Path(__file__).resolve().parents[2]
STREAM = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n"
PROBE = b"GET /probe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@contextmanager
def started() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, which drains until it is told to end, and its port."""
    words, pipe = [sys.executable, "-m", "tests.serve.live"], subprocess.PIPE
    with subprocess.Popen(
        words, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def end_drain(process: subprocess.Popen[str]) -> None:
    """Ends its drain; before one has begun, it is over at once."""
    assert process.stdin is not None
    process.stdin.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_while_the_server_answers_and_the_code_is_0(number: signal.Signals):
    with started() as (process, port):
        stream = connect(port, STREAM)
        process.send_signal(number)
        assert read_line(process) == "draining\n"
        # Probes see the drain, because the socket is open until its end.
        assert read_all(connect(port, PROBE)).endswith(b"/probe")
        assert read_until(stream, b"end\r\n0\r\n\r\n").endswith(b"end\r\n0\r\n\r\n")
        end_drain(process)
        assert read_all(stream) == b""
        assert read_line(process) == "done\n"
        assert process.wait(5) == ExitCode.DONE
        with pytest.raises(ConnectionError):
            connect(port)


def test_a_second_signal_ends_at_once():
    with started() as (process, _):
        process.send_signal(signal.SIGTERM)
        assert read_line(process) == "draining\n"
        time.sleep(0.1)  # what comes sooner may be an echo
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == ExitCode.ABORTED  # the drain has no end


# Three signals at 0, 40 and 60 ms, by a clock that goes on only as each is answered.
ECHOED = """
import os, signal, threading, types
from nanogpt_jax.serve import lifecycle
from tests.serve.live import Patience, Server, application, bind

moments = [0, 0.04, 0.06]
lifecycle.time = types.SimpleNamespace(monotonic=lambda: moments[0])

class Echoed(Server):
    def _answer(self, number):
        super()._answer(number)
        print(moments.pop(0), flush=True)
        if moments:
            os.kill(os.getpid(), number)

Echoed(
    application,
    Patience(),
    drain=threading.Event().wait,
    announce=lambda: os.kill(os.getpid(), signal.SIGTERM),
).run([bind("127.0.0.1", 0)])
"""


def test_an_echo_of_the_signal_is_none():
    words = [sys.executable, "-c", ECHOED]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == ("0\n0.04\n", ExitCode.ABORTED), ended.stderr


READY_AND_SIGNALLED = """
import asyncio, os, signal
from tests.serve.live import Patience, Server, application, bind

seen = []

class Signalled(Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        asyncio.get_running_loop().call_later(0.15, self.load)  # between two ticks

    def load(self):
        seen.append("loaded")
        os.kill(os.getpid(), signal.SIGTERM)

Signalled(
    application,
    Patience(),
    drain=lambda: seen.append("drained"),
    is_ready=lambda: seen == ["loaded"],
    announce=lambda: seen.append("announced"),
).run([bind("127.0.0.1", 0)])
print(*seen)
"""


def test_a_server_that_is_told_to_end_as_it_becomes_ready_has_said_so_before_it_drains():
    words = [sys.executable, "-c", READY_AND_SIGNALLED]
    said = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout == "loaded announced drained\n"


def test_idle_connections_do_not_hold_the_end_up():
    with started() as (process, port):
        end_drain(process)
        with connect(port, PROBE.replace(b"close", b"keep-alive")) as idle, connect(port) as silent:
            read_until(idle, b"/probe")
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == ExitCode.DONE
            assert read_all(idle) == read_all(silent) == b""


def test_port_0_is_a_free_port():
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", 0) as second:
        assert address_of(first) != address_of(second) != "http://127.0.0.1:0"


def test_an_address_in_use_is_named_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port={port} cannot .* in use; .*--port=0"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("256.0.0.1", 0), ("127.0.0.1", 99999)])
def test_an_address_that_is_none_is_refused(host: str, port: int):
    with pytest.raises(ConfigError, match="cannot be served at"):
        bind(host, port)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_address_of_ipv6_has_brackets():
    with bind("::1", 0) as listener:
        assert address_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
