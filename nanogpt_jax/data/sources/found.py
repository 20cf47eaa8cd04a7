"""Files as they were found, and the corpora that are made of them.

A file is hashed when it is found and must be the same at every later reading. Documents are read
anew whenever they are asked for, so that memory holds one of them and not the corpus. Which files
belong together, and what a record of them is, is decided elsewhere.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nanogpt_jax.data.corpus import BadRecords, Corpus, Documents, Parts, split_at
from nanogpt_jax.errors import DataError

# What becomes of a record that cannot be used: the problem, which names its place, and the remedy.
Report = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True)
class FoundFile:
    """A regular file as it was when it was hashed."""

    path: Path
    size_bytes: int
    modified_ns: int
    sha256: str

    def open(self) -> io.BufferedReader:
        """Opens the file for reading; DataError where it is no longer the one that was hashed."""
        file = _open(self.path)
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size_bytes, self.modified_ns):
            file.close()
            raise DataError(f"{self.path} changed after it was opened; run the command again")
        return file

    def read(self) -> bytes:
        """The whole content."""
        with self.open() as file:
            return file.read()


def find(path: Path) -> FoundFile:
    """The file at `path`, hashed; DataError unless it is a regular one that can be read."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)  # before it is opened: a pipe would wait
    except OSError as error:
        raise _unreadable(path, error) from error
    if not regular:
        raise DataError(f"{path} is not a regular file; give the path of one")
    with _open(path) as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256")
    return FoundFile(path, status.st_size, status.st_mtime_ns, digest.hexdigest())


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path} cannot be opened ({error.strerror}); give the path of a file that can be read"
    )


def fingerprint(key: str, files: Iterable[tuple[str, FoundFile]]) -> str:
    """A hash of names and contents, in order; `key` says how they are read."""
    digest = hashlib.sha256(key.encode())
    for name, file in files:
        digest.update(f"\0{name}\0{file.sha256}".encode(errors="surrogateescape"))
    return digest.hexdigest()


class Texts:
    """The texts from `start` up to `stop` of those that `read` gives, read at every iteration."""

    def __init__(self, read: Callable[[], Iterator[str]], start: int, stop: int):
        self._read = read
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[str]:
        return itertools.islice(self._read(), self._start, self._stop)


def documents(
    identity: str, fingerprint: str, read: Callable[[Report], Iterator[str]], bad: BadRecords
) -> Corpus:
    """The corpus of the documents that `read` gives, which is handed what becomes of bad records.

    The first reading counts the documents, and judges the bad records once and for all.
    """

    @functools.cache
    def count() -> int:
        counted = sum(1 for _ in read(bad))
        if not counted:
            raise DataError(f"data.source={identity} has no text in it; give files that have some")
        return counted

    def read_parts(val_fraction: float) -> Parts:
        total = count()
        cut = split_at(total, val_fraction)
        again = functools.partial(read, _leave_out)
        return Parts(Documents(Texts(again, 0, cut)), Documents(Texts(again, cut, total)))

    return Corpus(identity, fingerprint, running=False, read=read_parts, skips=bad.limit)


def _leave_out(problem: str, remedy: str) -> None:
    """Bad records of a later reading: the first has reported them."""


def running_text(identity: str, fingerprint: str, read: Callable[[], str]) -> Corpus:
    """The corpus of one text, which `read` gives, split at a character."""

    def read_parts(val_fraction: float) -> Parts:
        whole = read()
        cut = split_at(len(whole), val_fraction)
        return Parts(Documents([whole[:cut]]), Documents([whole[cut:]]))

    return Corpus(identity, fingerprint, running=True, read=read_parts)
