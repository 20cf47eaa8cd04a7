"""`shakespeare`, `names`, `tinystories` and `fineweb-edu`: public corpora, known to the byte.

A file is looked for in the folder NANOGPT_DATA, then among those downloaded before, and only then
at its address. What is found under its name but is another file is refused, never read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nanogpt_jax.data.corpus import Corpus, Opening
from nanogpt_jax.data.network import http
from nanogpt_jax.data.sources import Opener, found, sources
from nanogpt_jax.data.sources.found import FoundFile, Report
from nanogpt_jax.data.sources.records import COLUMN, import_parquet, read_texts
from nanogpt_jax.data.store import cache_directory
from nanogpt_jax.errors import ConfigError, DataError
from nanogpt_jax.registry import unknown

READ_AT_ONCE_BYTES = 2**20


class Published(NamedTuple):
    """A file at an address whose content can never change; `name` is the file's own here."""

    source: str
    name: str
    url: str
    size_bytes: int
    sha256: str


GITHUB = "https://raw.githubusercontent.com/karpathy"
SHAKESPEARE = Published(
    source="shakespeare",
    name="tinyshakespeare.txt",
    url=f"{GITHUB}/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
    size_bytes=1_115_394,
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
NAMES = Published(
    source="names",
    name="names.txt",
    url=f"{GITHUB}/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt",
    size_bytes=228_145,
    sha256="0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
)
HUB = "https://huggingface.co/datasets"
STORIES = f"{HUB}/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
TINYSTORIES = {
    "train": Published(
        source="tinystories",
        name="TinyStoriesV2-GPT4-train.txt",
        url=f"{STORIES}/TinyStoriesV2-GPT4-train.txt",
        size_bytes=2_227_753_162,
        sha256="6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
    ),
    "valid": Published(
        source="tinystories:valid",
        name="TinyStoriesV2-GPT4-valid.txt",
        url=f"{STORIES}/TinyStoriesV2-GPT4-valid.txt",
        size_bytes=22_502_601,
        sha256="6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
    ),
}
FINEWEB = f"{HUB}/HuggingFaceFW/fineweb-edu/resolve/87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"
FINEWEB_EDU = Published(
    source="fineweb-edu",
    name="fineweb-edu-sample-10BT-000_00000.parquet",
    url=f"{FINEWEB}/sample/10BT/000_00000.parquet",
    size_bytes=2_152_819_114,
    sha256="b1ba7b2ce4cb5ea6ef42dca40263eabb85f37700d01693a68e9b30a31d78e871",
)


@sources
def shakespeare(argument: str) -> Opener:
    """Tiny Shakespeare (Karpathy 2015), 1.1 MB: running text, or a speech a document."""
    _refuse(argument, SHAKESPEARE)
    return functools.partial(_open_text, SHAKESPEARE, b"\n\n")


@sources
def names(argument: str) -> Opener:
    """32,033 first names (Karpathy 2022, makemore): running text, or a name a document."""
    _refuse(argument, NAMES)
    return functools.partial(_open_text, NAMES, b"\n")


@sources
def tinystories(argument: str) -> Opener:
    """TinyStories, GPT-4's (Eldan and Li 2023, arXiv:2305.07759), 2.2 GB; `:valid`, 23 MB of it."""
    part = argument or "train"
    if part not in TINYSTORIES:
        raise ConfigError(unknown("data.source=tinystories:", part, TINYSTORIES))
    return functools.partial(_open_documents, TINYSTORIES[part], b"<|endoftext|>")


@sources.named("fineweb-edu")
def fineweb_edu(argument: str) -> Opener:
    """FineWeb-Edu (Penedo et al. 2024, arXiv:2406.17557), the first 2.2 GB of sample-10BT."""
    _refuse(argument, FINEWEB_EDU)
    return _open_parquet


def _refuse(argument: str, published: Published) -> None:
    if argument:
        raise ConfigError(
            f"data.source='{published.source}:{argument}' has an argument; {published.source} "
            "takes none"
        )


def _open_text(published: Published, separator: bytes, opening: Opening) -> Corpus:
    if opening.documents:
        return _open_documents(published, separator, opening)
    file = _obtain(published)
    return found.running_text(published.source, file.sha256, lambda: file.read().decode())


def _open_documents(published: Published, separator: bytes, opening: Opening) -> Corpus:
    file = _obtain(published)
    fingerprint = found.fingerprint(f"between {separator!r}", [("", file)])
    return found.documents(
        published.source, fingerprint, lambda _: _split(file, separator), opening.bad
    )


def _open_parquet(opening: Opening) -> Corpus:
    import_parquet("data.source=fineweb-edu")  # what is missing should be known before 2 GB come
    file = _obtain(FINEWEB_EDU)

    def read(report: Report) -> Iterator[str]:
        return read_texts(file, COLUMN, report)

    return found.documents(FINEWEB_EDU.source, file.sha256, read, opening.bad)


def _split(file: FoundFile, separator: bytes) -> Iterator[str]:
    """The texts between separators, without the white space around them."""
    rest = b""
    with file.open() as opened:
        while chunk := opened.read(READ_AT_ONCE_BYTES):
            *pieces, rest = (rest + chunk).split(separator)
            yield from filter(None, (piece.decode().strip() for piece in pieces))
    if text := rest.decode().strip():
        yield text


def _obtain(published: Published) -> FoundFile:
    """The published file, from the folder NANOGPT_DATA, the cache, or its address."""
    given = Path(os.environ.get("NANOGPT_DATA", "")).expanduser() / published.name
    if "NANOGPT_DATA" in os.environ and given.exists():
        return _verify(given, published)
    kept = cache_directory() / "corpora" / published.name
    if not kept.exists():
        try:
            http.download(published.url, kept, size=published.size_bytes, sha256=published.sha256)
        except DataError as error:
            raise DataError(
                f"data.source={published.source} cannot be downloaded ({error}); set "
                f"NANOGPT_DATA=DIR with {published.name} in it, or put the file at {kept}"
            ) from error
    return _verify(kept, published)


def _verify(path: Path, published: Published) -> FoundFile:
    file = found.find(path)
    if file.sha256 != published.sha256:
        raise DataError(
            f"{path} is not the file that data.source={published.source} names: {file.size_bytes} "
            f"bytes of sha256 {file.sha256[:12]} found, {published.size_bytes} of "
            f"{published.sha256[:12]} required; remove it, or read it with text:PATH or files:PATH"
        )
    return file
