"""`text:PATH`: any UTF-8 file, as one running text or as one document a line.

Every character stays as it is in the file, carriage returns and a byte order mark included. The
file is read anew each time, a block at a time, and never mapped: one that is cut short while it is
mapped ends the process.
"""

from __future__ import annotations

import codecs
import dataclasses
import functools
import hashlib
import itertools
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nanogpt_jax.data.corpus import Corpus, Documents, Opening, Parts, split_at
from nanogpt_jax.data.sources import Opener, require, sources
from nanogpt_jax.data.store.pieces import cut
from nanogpt_jax.errors import DataError

MAX_BYTES = 2**30
BLOCK_BYTES = 2**20


@sources
def text(argument: str) -> Opener:
    """One UTF-8 file, as one running text or as one document a line."""
    require(argument, "text:PATH")
    return functools.partial(open_file, Path(argument).expanduser(), f"text:{argument}")


def open_file(path: Path, name: str, opening: Opening) -> Corpus:
    """The file at `path`: regular, at most 1 GiB by its metadata, UTF-8; `name` names the source.

    Opening hashes the file; only `read` finds out whether it is text.
    """
    name = f"data.source={name}"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{name} is not a regular file; give the path of a UTF-8 text file")
        if status.st_size > MAX_BYTES:
            raise DataError(
                f"{name} has {status.st_size} bytes, at most {MAX_BYTES} (1 GiB) are read; "
                "split the file"
            )
        digest, checksums = hashlib.sha256(), []
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                checksums.append(zlib.crc32(block))
    except OSError as error:
        raise DataError(
            f"{name} cannot be opened ({error.strerror}); give the path of a UTF-8 text file"
        ) from error
    content = TextFile(path, name, tuple(checksums))
    read = functools.partial(_read_lines if opening.documents else _read_running, content)
    return Corpus(f"text:{path.name}", digest.hexdigest(), not opening.documents, read)


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file as it was when it was opened; a block that has changed since is an error."""

    path: Path
    name: str
    checksums: tuple[int, ...]  # of each block

    def blocks(self) -> Iterator[bytes]:
        """The bytes, a block at a time."""
        try:
            with self.path.open("rb") as file:
                for checksum in self.checksums:
                    block = file.read(BLOCK_BYTES)
                    if zlib.crc32(block) != checksum:
                        raise self.changed()
                    yield block
                if file.read(1):
                    raise self.changed()
        except OSError as error:
            raise self.changed() from error

    def changed(self) -> DataError:
        """The error for a file that is not what it was."""
        return DataError(f"{self.name} changed after it was opened; run the command again")

    def portions(self) -> Iterator[str]:
        """The text, a block at a time; DataError where it is none."""
        decoder, decoded = codecs.getincrementaldecoder("utf-8")(), 0
        for block in itertools.chain(self.blocks(), [b""]):
            held_back = len(decoder.getstate()[0])
            try:
                yield decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.name} is not UTF-8 at byte {decoded - held_back + error.start}; "
                    "convert it, for example with iconv -t utf-8"
                ) from error
            decoded += len(block)

    def lines(self) -> Iterator[str]:
        """The lines that say something, without their ends."""
        begun: list[str] = []  # joined once, however many blocks a line goes through
        for portion in self.portions():
            first, *others = portion.split("\n")
            begun.append(first)
            for other in others:
                if (line := "".join(begun).removesuffix("\r")).strip():
                    yield line
                begun = [other]
        if (line := "".join(begun)).strip():
            yield line

    def empty(self) -> DataError:
        """The error for a file in which nothing is said."""
        return DataError(f"{self.name} has no text in it; give the path of a UTF-8 text file")


@dataclasses.dataclass(frozen=True)
class Texts(Iterable[str]):
    """What `begin` gives, from the beginning whenever it is asked for."""

    begin: Callable[[], Iterator[str]]

    def __iter__(self) -> Iterator[str]:
        return self.begin()


def _read_running(content: TextFile, val_fraction: float) -> Parts:
    count, said = 0, False
    for portion in content.portions():
        count += len(portion)
        said = said or bool(portion.strip())
    if not said:
        raise content.empty()
    middle = split_at(count, val_fraction)

    def section(start: int, stop: int) -> Texts:
        return Texts(lambda: cut(_between(content.portions(), start, stop)))

    return Parts(Documents(section(0, middle)), Documents(section(middle, count)))


def _between(portions: Iterable[str], start: int, stop: int) -> Iterator[str]:
    """The characters from `start` to `stop` of a text that comes in portions."""
    place = 0
    for portion in portions:
        yield portion[max(start - place, 0) : max(stop - place, 0)]
        place += len(portion)
        if place >= stop:
            return


def _read_lines(content: TextFile, val_fraction: float) -> Parts:
    count = sum(1 for _ in content.lines())
    if not count:
        raise content.empty()
    middle = split_at(count, val_fraction)
    return Parts(
        Documents(Texts(lambda: itertools.islice(content.lines(), middle))),
        Documents(Texts(lambda: itertools.islice(content.lines(), middle, None))),
    )
