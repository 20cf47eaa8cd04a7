"""A server on a port of its own: a small application behind real connections.

python -m tests.serve.live: prints its port when it is ready, and when it drains, which takes until
it reads a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys
import threading
import time
from collections.abc import Iterator

from nanogpt_jax.serve.asgi import Application, Receive, Scope, Send, answer
from nanogpt_jax.serve.connection import Patience
from nanogpt_jax.serve.lifecycle import Server, address_of, bind

LAP = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """/large: 32 MiB in pieces; /stream: a number every 50 ms until told; else the path."""
    if scope["type"] == "lifespan":
        return
    if scope["path"] not in ("/large", "/stream"):
        while (await receive()).get("more_body"):
            pass
        await answer(send, 200, scope["path"].encode(), [])
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/large":
        for _ in range(512):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    else:
        for number in range(10):
            body = f"{number}\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"end", "more_body": False})


@contextlib.contextmanager
def serving(app: Application = application, patience: Patience | None = None) -> Iterator[int]:
    """The port of a server in a thread of this process."""
    listener = bind("127.0.0.1", 0)
    server = Server(app, patience or Patience())
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def connect(port: int, *words: bytes) -> socket.socket:
    """A connection over which something was sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(b"".join(words))
    return connection


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes, which a reset is too; then closes this end."""
    received = bytearray()
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(1 << 20):
            received += data
    return bytes(received)


def read_until(connection: socket.socket, words: bytes) -> bytes:
    """What comes up to these words, and maybe some more."""
    received = bytearray()
    while words not in received:
        data = connection.recv(1000)
        assert data, "closed before these words came"
        received += data
    return bytes(received)


def lap(port: int) -> None:
    """Asks the server and hears the answer out: its event loop has had its turns meanwhile."""
    assert read_all(connect(port, LAP)).startswith(b"HTTP/1.1 200 ")


def main() -> None:
    """Serves until a signal has been answered."""

    def drain() -> None:
        print("draining", flush=True)
        sys.stdin.readline()

    listener = bind("127.0.0.1", 0)
    ready = functools.partial(print, address_of(listener), flush=True)
    Server(application, Patience(), drain=drain, announce=ready).run([listener])
    print("done", flush=True)


if __name__ == "__main__":
    main()
