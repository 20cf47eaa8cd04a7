"""The one home of GET: pages and files over HTTPS, bounded, repeated, resumed and checked.

A transfer that breaks goes on where it broke, and nothing wrong stands under a final name. There
is no other method here, no cache, no cookie and no parallel request.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from io import BufferedRandom
from pathlib import Path
from typing import NamedTuple, TypeVar

from absl import logging

from nanogpt_jax.data.network.connection import Body, Broken, Refused, get, shown
from nanogpt_jax.errors import DataError

# The longest wait of ours is so many times the first.
MAX_BACKOFF = 64
# Where a file ends whose length neither the caller nor the server knows.
MAX_UNKNOWN_BYTES = 2**34

Result = TypeVar("Result")


class Retries(NamedTuple):
    """How often a request is repeated, and the first wait; each wait is twice the one before."""

    count: int
    base_seconds: float


RETRIES = Retries(5, 1.0)


def fetch(
    url: str,
    *,
    limit_bytes: int,
    headers: Mapping[str, str] | None = None,
    byte_range: tuple[int, int] | None = None,
    retries: Retries | None = None,
) -> bytes:
    """The body at `url`, or its bytes from `byte_range[0]` up to but not including the other.

    More than `limit_bytes` are never read; where a server ignores ranges, the bytes before the
    range count too. Raises DataError; Refused is that of a status which repeating cannot change.
    """

    def attempt() -> bytes:
        content = bytearray()
        with get(url, headers or {}, byte_range) as body:
            skipped = byte_range[0] - body.start if byte_range else 0
            needed = byte_range[1] - body.start if byte_range else None
            for chunk in body.chunks(limit_bytes):
                content += chunk
                if needed is not None and len(content) >= needed:
                    break
        if needed is not None and len(content) < needed:
            raise DataError(f"{shown(url)} ends before byte {needed + body.start}: it has changed")
        return bytes(content[skipped:needed])

    return _repeat(url, attempt, retries or RETRIES)


def download(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Brings the file at `url` to `path`, which exists only once length and hash are right.

    What an earlier attempt or an earlier process left is gone on with. Processes that want the
    same file wait for the one that is at it. No other host than that of `url` is told the
    Authorization of `headers`.
    """
    part = path.with_name(f".{path.name}.part")
    tag = path.with_name(f".{path.name}.tag")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _claim(part, path) as file:
            if file is None:
                return
            with _progress(path.name) as show:
                transfer = _Transfer(url, file, tag, size, sha256, headers or {}, show)
                _repeat(url, transfer.attempt, RETRIES)
            os.fsync(file.fileno())
            part.rename(path)
            tag.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{shown(url)} cannot be written to {path} ({error.strerror}); make room there, or "
            "let NANOGPT_CACHE name another folder"
        ) from error


class _Transfer(NamedTuple):
    """A file on its way: `file` holds what has come, `tag` the version that it is of."""

    url: str
    file: BufferedRandom
    tag: Path
    size: int | None
    sha256: str | None
    headers: Mapping[str, str]
    show: Callable[[int, int | None], None]

    def attempt(self) -> None:
        """Brings what is missing, and checks the whole."""
        start = self._keep()
        if start == 0 or start != self.size:
            self._append(start)
        if self.sha256 is None:
            return
        self.file.seek(0)
        found = hashlib.file_digest(self.file, "sha256").hexdigest()
        if found != self.sha256:
            self._drop()
            problem = f"has the sha256 {found}, {self.sha256} is required"
            if start:  # perhaps only what was kept is wrong
                raise Broken(problem)
            raise DataError(f"{shown(self.url)} {problem}: it is not what was published")

    def _keep(self) -> int:
        """How many bytes need not come again; what nothing could check is dropped."""
        length = self.file.seek(0, os.SEEK_END)
        checkable = self.sha256 is not None or self.tag.is_file()
        if checkable and (self.size is None or length <= self.size):
            return length
        self._drop()
        return 0

    def _drop(self) -> None:
        self.file.truncate(0)
        self.tag.unlink(missing_ok=True)

    def _append(self, start: int) -> None:
        headers = {**self.headers}
        if start and self.tag.is_file():
            headers["If-Range"] = self.tag.read_text(encoding="ascii")
        try:
            with get(self.url, headers, (start, None) if start else None) as body:
                self._write(body)
        except Refused as refused:
            if not start or refused.status != 416:
                raise
            self._drop()
            raise Broken("has nothing after the part that was kept") from refused
        finally:
            self.file.flush()

    def _write(self, body: Body) -> None:
        total_bytes = body.total_bytes if self.size is None else self.size
        if body.total_bytes not in (None, total_bytes):
            raise DataError(
                f"{shown(self.url)} has {body.total_bytes} bytes, {self.size} are required: it is "
                "not what was published"
            )
        if not body.bounded and self.size is None and self.sha256 is None:
            raise DataError(
                f"{shown(self.url)} does not say where it ends, so it cannot be checked"
            )
        if body.start == 0:
            self._remember(body)
        self.file.seek(self.file.truncate(body.start))
        known_bytes = MAX_UNKNOWN_BYTES if total_bytes is None else total_bytes
        for chunk in body.chunks(known_bytes - body.start):
            self.file.write(chunk)
            self.show(self.file.tell(), total_bytes)
        if total_bytes is not None and self.file.tell() < total_bytes:
            raise Broken(f"ended after {self.file.tell()} of {total_bytes} bytes")

    def _remember(self, body: Body) -> None:
        """Keeps what If-Range needs: a strong name of this version, or its date."""
        version = body.response.headers.get("ETag", "W/")
        if version.startswith("W/"):
            version = body.response.headers.get("Last-Modified", "")
        if version and version.isascii():
            self.tag.write_text(version, encoding="ascii")
        else:
            self.tag.unlink(missing_ok=True)


@contextlib.contextmanager
def _claim(part: Path, path: Path) -> Iterator[BufferedRandom | None]:
    """The part, for this process alone; None once another process has finished the file."""
    while True:
        with part.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(part, file):
                try:
                    yield file
                finally:
                    if _is_at(part, file) and not os.fstat(file.fileno()).st_size:
                        part.unlink()
                return
        # While this process waited, another renamed or removed what it holds now.
        if path.exists():
            yield None
            return


def _is_at(path: Path, file: BufferedRandom) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _repeat(url: str, attempt: Callable[[], Result], retries: Retries) -> Result:
    tries = 0
    while True:
        try:
            return attempt()
        except Broken as broken:
            tries += 1
            if tries > retries.count:
                raise DataError(
                    f"{shown(url)} {broken}, in the last of {tries} attempts; try again later"
                ) from broken
            longest_seconds = retries.base_seconds * min(2 ** (tries - 1), MAX_BACKOFF)
            wait_seconds = broken.wait_seconds
            if wait_seconds is None:  # jitter, so that many who failed together come back apart
                wait_seconds = longest_seconds * random.uniform(0.5, 1)
            logging.info("%s %s; again in %.1f s", shown(url), broken, wait_seconds)
        time.sleep(wait_seconds)


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """What shows the bytes that are there, and of how many: a bar, where there is a terminal."""
    if not sys.stderr.isatty():
        logging.info("downloading %s", name)
        yield lambda done, total: None
        return
    from rich import console, progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console.Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
