"""`text:PATH`: any UTF-8 file, as one running text or as one document a line.

Every character stays as it is in the file, carriage returns and a byte order mark included.
"""

from __future__ import annotations

import functools
import hashlib
import stat
from pathlib import Path

from nanogpt_jax.data.corpus import Corpus, Documents, Opening, Parts, split_at
from nanogpt_jax.data.sources import Opener, require, sources
from nanogpt_jax.errors import DataError

MAX_BYTES = 2**30


@sources
def text(argument: str) -> Opener:
    """One UTF-8 file, as one running text or as one document a line."""
    require(argument, "text:PATH")
    return functools.partial(open_file, Path(argument).expanduser(), f"text:{argument}")


def open_file(path: Path, name: str, opening: Opening) -> Corpus:
    """The file at `path`: regular, at most 1 GiB by its metadata, UTF-8; `name` names the source.

    Opening hashes the file; only `read` holds it in memory, and finds out whether it is text.
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
        with path.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{name} cannot be opened ({error.strerror}); give the path of a UTF-8 text file"
        ) from error

    def read(val_fraction: float) -> Parts:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != fingerprint:
            raise DataError(f"{name} changed after it was opened; run the command again")
        whole = _decode(content, name)
        if not opening.documents:
            cut = split_at(len(whole), val_fraction)
            return Parts(Documents([whole[:cut]]), Documents([whole[cut:]]))
        lines = [line for line in whole.replace("\r\n", "\n").split("\n") if line.strip()]
        cut = split_at(len(lines), val_fraction)
        return Parts(Documents(lines[:cut]), Documents(lines[cut:]))

    return Corpus(f"text:{path.name}", fingerprint, running=not opening.documents, read=read)


def _decode(content: bytes, name: str) -> str:
    """The text of a file that must have one."""
    try:
        whole = content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 at byte {error.start}; convert it, for example with "
            "iconv -t utf-8"
        ) from error
    if not whole.strip():
        raise DataError(f"{name} has no text in it; give the path of a UTF-8 text file")
    return whole
