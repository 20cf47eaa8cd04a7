"""From a bound socket to an orderly end: uvicorn with signals, deadlines and an exit code of ours.

The first SIGTERM or SIGINT drains: `drain` is called in a thread while the server still answers,
so that probes see it and streams under way reach their end; when it returns the socket closes, and
the process ends as any that has done its work. A second signal ends it at once. uvicorn would
close the socket first, and raise the signal again after everything is done.

One process, one event loop. What is drained, and for how long, is the caller's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn
from absl import logging

from nanogpt_jax.errors import ConfigError, ExitCode
from nanogpt_jax.serve.asgi import Application
from nanogpt_jax.serve.connection import Patience, with_patience

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# One wish may come as two signals: `timeout` sends its own to the process and then to its group.
ECHO_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 5
# What answers may take to leave after the drain; with its 20 seconds the end comes within 25.
FLUSH_SECONDS = 3
SWITCH_SECONDS = 1e-4
BACKLOG = 1024  # connections that wait to be accepted


def bind(host: str, port: int) -> socket.socket:
    """A socket with an address; port 0 takes a free one. ConfigError if it cannot have it.

    Bound before anything is loaded, so that an address in use is known at once; it listens only
    when there is somebody to answer.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # A port that a server has just left is free at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--host={host} --port={port} cannot be served at: {reason}; choose another, or "
            "--port=0 for a free one"
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """`http://127.0.0.1:8787`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _settle() -> None:
    """Python's own settings, now that all is loaded; without them overload starves the engine.

    The threads of engine and event loop give way to each other sooner than after Python's 5 ms.
    What exists now stays, so collections need not walk it whenever connections have made objects.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()


class Server(uvicorn.Server):
    """uvicorn's server for `app`, which drains before it closes: `Server(...).run([listener])`.

    `drain` may block; `announce` is called once, when `is_ready` says so for the first time. Where
    `is_dead` is true before, the server ends, `failed`; later it stays, so that probes tell.
    """

    def __init__(
        self,
        app: Application,
        patience: Patience,
        *,
        drain: Callable[[], object] = lambda: None,
        is_ready: Callable[[], bool] = lambda: True,
        is_dead: Callable[[], bool] = lambda: False,
        announce: Callable[[], object] = lambda: None,
    ):
        config = uvicorn.Config(
            app,
            loop="asyncio",  # one behaviour, whatever is installed
            http=with_patience(patience),
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,  # guard.py writes it
            proxy_headers=False,  # policy.py reads them
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=FLUSH_SECONDS,
        )
        super().__init__(config)
        self._drain, self._announce = drain, announce
        self._is_ready, self._is_dead = is_ready, is_dead
        self._announced = self.failed = False
        self._signalled: float | None = None
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while the server runs, and raises none again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._answer, signal.Signals(number))
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _answer(self, number: signal.Signals) -> None:
        """Begins to drain; the second time, ends the process."""
        now = time.monotonic()
        if self._signalled is None:
            self._tell()  # who asked /ready before a tick, and ends the server, finds it said
            self._signalled = now
            logging.warning("%s: draining; a second signal ends at once", number.name)
            self._draining = asyncio.get_running_loop().create_task(self._drain_and_exit())
        elif now - self._signalled > ECHO_SECONDS:
            os._exit(ExitCode.ABORTED)  # no log line is lost: each is flushed when written

    async def _drain_and_exit(self) -> None:
        try:
            await asyncio.to_thread(self._drain)
        finally:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """uvicorn calls it ten times a second."""
        self._tell()
        if not self._announced and self._is_dead():
            self.failed = self.should_exit = True
        return await super().on_tick(counter)

    def _tell(self) -> None:
        """Tells that the server is ready, the first time that it is."""
        if not self._announced and self._is_ready():
            self._announced = True
            _settle()
            self._announce()
