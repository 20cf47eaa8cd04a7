"""`text:PATH`: any UTF-8 file, as one running text or as one document a line."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from nanogpt_jax.data.corpus import Corpus, Documents, Parts, tail
from nanogpt_jax.data.sources import sources
from nanogpt_jax.errors import DataError

MAX_BYTES = 2**30


@sources
def text(argument: str, documents: bool) -> Corpus:
    """The file at `argument`: regular, UTF-8, at most 1 GiB by its metadata."""
    path = Path(argument).expanduser()
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DataError(
            f"data.source=text:{argument}: no such file; give the path of a UTF-8 text file"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"data.source=text:{argument}: a regular file is required")
    if status.st_size > MAX_BYTES:
        raise DataError(
            f"data.source=text:{argument}: {status.st_size} bytes found, at most {MAX_BYTES} "
            "(1 GiB) are read; split the file"
        )
    content = path.read_bytes()
    try:
        whole = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"data.source=text:{argument}: byte {error.start} is not UTF-8; "
            "convert the file, for example with iconv -t utf-8"
        ) from error
    if not whole.strip():
        raise DataError(f"data.source=text:{argument}: the file has no text")

    def read(val_fraction: float) -> Parts:
        if documents:
            lines = [line for line in whole.splitlines() if line.strip()]
            cut = tail(len(lines), val_fraction)
            return Parts(Documents(lines[:cut]), Documents(lines[cut:]))
        cut = tail(len(whole), val_fraction)
        return Parts(Documents([whole[:cut]]), Documents([whole[cut:]]))

    digest = hashlib.sha256(content).hexdigest()
    return Corpus(f"text:{path.name}", digest, running=not documents, read=read)
