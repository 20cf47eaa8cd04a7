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
from tests.serve.live import connect, read_all

REPOSITORY = Path(__file__).resolve().parents[2]
STREAM = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n"
PROBE = b"GET /probe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@contextmanager
def started(drain_seconds: float) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, and its port."""
    words = [sys.executable, "-m", "tests.serve.live", str(drain_seconds)]
    with subprocess.Popen(
        words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_while_the_server_answers_and_the_code_is_0(number: signal.Signals):
    with started(drain_seconds=0.6) as (process, port):
        stream = connect(port, STREAM)
        process.send_signal(number)
        assert read_line(process) == "draining\n"
        # Probes see the drain, because the socket is open until its end.
        assert read_all(connect(port, PROBE)).endswith(b"/probe")
        assert read_all(stream).endswith(b"end\r\n0\r\n\r\n")
        assert read_line(process) == "done\n"
        assert process.wait(5) == ExitCode.DONE
        with pytest.raises(ConnectionError):
            connect(port)


def test_an_echo_of_the_signal_is_none_and_a_second_one_ends_at_once():
    with started(drain_seconds=30) as (process, _):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert read_line(process) == "draining\n"
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(2) == ExitCode.ABORTED


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
    with started(drain_seconds=0) as (process, port):
        with connect(port, PROBE.replace(b"close", b"keep-alive")) as idle, connect(port) as silent:
            answered = bytearray()
            while not answered.endswith(b"/probe"):
                answered += idle.recv(1000)
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
