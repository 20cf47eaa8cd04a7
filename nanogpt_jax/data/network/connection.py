"""One GET: where it may lead, how slow it may be, and which answers are worth another attempt.

A request has a connection of its own, so that nothing stays open between two of them. Nothing is
repeated and nothing is kept here: http.py does both.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nanogpt_jax.errors import DataError

if TYPE_CHECKING:
    import httpx2

MAX_REDIRECTS = 5
# Silence for so long, or fewer bytes in it than at this pace, ends a connection.
WINDOW_SECONDS = 30.0
MIN_BYTES_PER_SECOND = 1000
# Longer waits than this are the user's, not ours.
MAX_RETRY_AFTER_SECONDS = 120
EXCERPT_CHARACTERS = 240

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Broken(Exception):
    """An attempt that may succeed when repeated, after the wait that the server asks for."""

    def __init__(self, problem: str, wait_seconds: float | None = None):
        super().__init__(problem)
        self.wait_seconds = wait_seconds


class Refused(DataError):
    """A status that no repetition changes."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Body(NamedTuple):
    """An answer whose status is good: byte `start` of a file of `total_bytes`, and what follows.

    `total_bytes` is None where the server does not say; `bounded` tells whether a body that is
    cut short can be told from a whole one.
    """

    url: str
    response: httpx2.Response
    watch: Watch
    start: int = 0
    total_bytes: int | None = None
    bounded: bool = False

    def chunks(self, limit_bytes: int) -> Iterator[bytes]:
        """The bytes as they come; more than `limit_bytes` are a DataError."""
        received_bytes = 0
        for chunk in self.response.iter_raw():
            self.watch.received_bytes += len(chunk)
            received_bytes += len(chunk)
            if received_bytes > limit_bytes:
                raise DataError(
                    f"{shown(self.url)} goes on after the {limit_bytes} bytes that it may have; "
                    "check the address"
                )
            yield chunk
        if self.watch.slow:  # a body without a length ends where its connection is shut
            raise Broken(_too_slow())


class Watch:
    """Shuts a connection that is too slow: a read timeout ends silence, but not a drip."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.slow = False
        self._socket: socket.socket | None = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hears of the socket before anything has come through it."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watches as long as the block lasts."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        before_bytes = self.received_bytes
        while not over.wait(WINDOW_SECONDS):
            pace = (self.received_bytes - before_bytes) / WINDOW_SECONDS
            before_bytes = self.received_bytes
            if pace < MIN_BYTES_PER_SECOND and self._socket is not None:
                self.slow = True
                with contextlib.suppress(OSError):  # the other end was quicker
                    self._socket.shutdown(socket.SHUT_RDWR)
                return


@contextlib.contextmanager
def get(
    url: str, headers: Mapping[str, str], byte_range: tuple[int, int | None] | None = None
) -> Iterator[Body]:
    """The answer of `url`, or of where it redirects to; `byte_range` as http.fetch has it.

    Raises Broken, Refused, or DataError for what is neither; errors while the body is read too.
    """
    import httpx2

    sent = {
        "User-Agent": f"nanogpt_jax/{importlib.import_module('nanogpt_jax').__version__}",
        "Accept-Encoding": "identity",  # so that no small body unfolds into a large one
        "Connection": "close",
        **headers,
    }
    if byte_range is not None:
        first, stop = byte_range
        sent["Range"] = f"bytes={first}-{'' if stop is None else stop - 1}"
    watch = Watch()
    try:
        address = httpx2.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            _require_safe(url, address)
            options: dict[str, Any] = {"headers": sent, "extensions": {"trace": watch.trace}}
            with (
                watch.watched(),
                _client(address) as client,
                client.stream("GET", address, **options) as response,
            ):
                if not response.has_redirect_location:
                    yield _accept(url, response, watch, byte_range)
                    return
                target = address.join(response.headers["Location"])
            require_allowed(url, address, target)
            if _origin(target) != _origin(address):
                sent = {name: sent[name] for name in sent if name.lower() != "authorization"}
            address = target
    except httpx2.InvalidURL as error:
        raise DataError(
            f"{shown(url)} is or leads to something that is no URL ({error})"
        ) from error
    except (httpx2.ConnectError, httpx2.ProxyError) as error:
        raise DataError(
            f"{shown(url)} cannot be reached ({error}); check the address and the connection"
        ) from error
    except httpx2.TransportError as error:
        reason = f"broke off ({error or type(error).__name__})"
        raise Broken(_too_slow() if watch.slow else reason) from error
    raise DataError(f"{shown(url)} leads through more than {MAX_REDIRECTS} redirects")


def shown(url: str) -> str:
    """The URL without the name and password that it may hold."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def _client(address: httpx2.URL) -> httpx2.Client:
    import httpx2

    return httpx2.Client(
        verify=_trusted() if address.scheme == "https" else False,
        timeout=WINDOW_SECONDS,
        trust_env=not _is_loopback(address.host),  # no proxy leads to this machine
    )


@functools.cache
def _trusted() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()


def _accept(
    url: str, response: httpx2.Response, watch: Watch, byte_range: tuple[int, int | None] | None
) -> Body:
    """The answer as a body, if that is what was asked for."""
    body = Body(url, response, watch)
    status = response.status_code
    if status != 200 and not (status == 206 and byte_range is not None):
        problem = f"answered {status} {response.reason_phrase}: {_excerpt(body)}"
        if status != 429 and status < 500:
            raise Refused(f"{shown(url)} {problem}", status)
        asked = response.headers.get("Retry-After", "")
        wait_seconds = float(asked) if asked.isdecimal() else None
        if wait_seconds is not None and wait_seconds > MAX_RETRY_AFTER_SECONDS:
            raise Refused(f"{shown(url)} {problem}; try again after {asked} s", status)
        raise Broken(problem, wait_seconds)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise DataError(f"{shown(url)} came encoded as {encoding!r}, which was not asked for")
    headers = response.headers
    bounded = "Content-Length" in headers or "Transfer-Encoding" in headers
    if status == 200:
        length = headers.get("Content-Length")
        return body._replace(total_bytes=int(length) if length else None, bounded=bounded)
    found = headers.get("Content-Range", "")
    matched = _CONTENT_RANGE.fullmatch(found)
    if byte_range is None or matched is None or int(matched[1]) != byte_range[0]:
        raise DataError(f"{shown(url)} sent the range {found!r}, from byte {byte_range} was asked")
    total_bytes = None if matched[2] == "*" else int(matched[2])
    return body._replace(start=int(matched[1]), total_bytes=total_bytes, bounded=bounded)


def _excerpt(body: Body) -> str:
    """The beginning of what the server says about its refusal, fit for one line of a terminal."""
    import httpx2

    said = b""
    with contextlib.suppress(httpx2.TransportError):
        for chunk in body.response.iter_raw():
            said += chunk
            if len(said) > 4 * EXCERPT_CHARACTERS:
                break
    text = "".join(c if c.isprintable() else " " for c in said.decode(errors="replace"))
    return " ".join(text.split())[:EXCERPT_CHARACTERS] or "without a word"


def _require_safe(url: str, address: httpx2.URL) -> None:
    local = address.scheme == "http" and _is_loopback(address.host)
    if not address.host or not (address.scheme == "https" or local):
        raise DataError(
            f"{shown(url)} is or leads to {address.scheme}://{address.host}; only https is read, "
            "and http on this machine"
        )


def require_allowed(url: str, address: httpx2.URL, target: httpx2.URL) -> None:
    """Refuses a redirect to less protection, or from outside into a network that is not."""
    if address.scheme == "https" and target.scheme != "https":
        raise DataError(f"{shown(url)} leads from https to {target.scheme}, which is not followed")
    if _is_public(address.host) and not _is_public(target.host):
        raise DataError(
            f"{shown(url)} leads into a private network, to {target.host}, which is not followed"
        )


def _origin(address: httpx2.URL) -> tuple[str, str, int | None]:
    return address.scheme, address.host, address.port


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_public(host: str) -> bool:
    """Whether the host has only public addresses, or none known here: then a proxy finds it."""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return True
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return all(
        (getattr(address, "ipv4_mapped", None) or address).is_global for address in addresses
    )


def _too_slow() -> str:
    return f"gave less than {MIN_BYTES_PER_SECOND} bytes a second for {WINDOW_SECONDS:g} s"
