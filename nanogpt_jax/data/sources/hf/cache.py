"""Answers of the hub that are kept: files with readable names, written whole or not at all.

Nothing is ever removed: the folder may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nanogpt_jax.data.store import cache_directory
from nanogpt_jax.errors import DataError

READABLE_CHARACTERS = 120

Value = TypeVar("Value")


def path_of(folder: str, key: tuple[object, ...]) -> Path:
    """Where the answer to `key` is kept: a name that can be read, and the hash of the whole key."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", "_".join(map(str, key)))[:READABLE_CHARACTERS]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return cache_directory() / "hf" / folder / f"{readable}_{digest}.json"


def load(path: Path, read: Callable[[bytes], Value]) -> Value | None:
    """What `read` makes of the file; None where there is none, or none that can be read."""
    try:
        return read(path.read_bytes())
    except (FileNotFoundError, ValueError, DataError):
        return None


def save(path: Path, content: bytes) -> None:
    """Writes the file under its final name once all of it is on the disk."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut leaves the name on an empty file
        temporary.rename(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror}); make room there, or let NANOGPT_CACHE "
            "name another folder"
        ) from error
