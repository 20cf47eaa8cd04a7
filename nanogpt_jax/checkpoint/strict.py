"""Reading what a stranger may have written: plain files and JSON, both bounded.

It knows no schema: what a value must be is said by whoever asks for it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any


def open_plain(path: Path) -> FileIO:
    """Opens a file to read, unbuffered; OSError for a link, and ValueError for any other thing."""
    # Without O_NONBLOCK, opening a pipe waits for its other end.
    file = open(path, "rb", buffering=0, opener=_without_following)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is no plain file")
    return file


def _without_following(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def read_text(path: Path, longest_bytes: int) -> str:
    """A text of UTF-8; ValueError where it is longer, or none."""
    with open_plain(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > longest_bytes:
            raise ValueError(f"it has {size_bytes} bytes, at most {longest_bytes} are read")
        return file.read(longest_bytes).decode("utf-8")


def parse_json(text: str | bytes) -> Any:
    """The value; ValueError for a name that stands twice, for NaN, and for deep nesting."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return values


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
