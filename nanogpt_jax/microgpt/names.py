"""names.txt (Karpathy 2022, makemore): 32,033 first names, found or fetched, and known to the byte.

It reads no other file; those that `--input` names are the command's.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from pathlib import Path

COMMIT = "988aa59e4d8fefa526d06f3b453ad116258398d4"
URL = f"https://raw.githubusercontent.com/karpathy/makemore/{COMMIT}/names.txt"
SIZE_BYTES = 228_145
SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"


class NoNames(Exception):
    """names.txt is nowhere to be had, or what is found in its place is another file."""


def read() -> str:
    """The text of names.txt: from NANOGPT_DATA, else from an earlier download, else from its home.

    Raises NoNames.
    """
    kept = cache_directory() / "corpora" / "names.txt"
    given = Path(os.environ.get("NANOGPT_DATA") or kept.parent).expanduser() / "names.txt"
    for path in (given, kept):
        if path.exists():
            return verify(path.read_bytes(), f"{path}").decode()
    content = fetch()
    text = verify(content, URL).decode()
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"names.txt.{os.getpid()}")  # nobody may find half a file
    part.write_bytes(content)
    part.replace(kept)
    return text


def cache_directory() -> Path:
    """`NANOGPT_CACHE`, else nanogpt_jax in the user's cache folder."""
    if given := os.environ.get("NANOGPT_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nanogpt_jax"


def fetch() -> bytes:
    """What stands at the public address, of which no more is read than the file has."""
    try:
        with urllib.request.urlopen(URL, timeout=30) as response:
            return response.read(SIZE_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise NoNames(
            f"{URL} cannot be read ({error}): give a file of names, one a line, by --input=FILE, "
            "or the folder of names.txt by NANOGPT_DATA=DIR"
        ) from error


def verify(content: bytes, place: str) -> bytes:
    """`content`, if it is the known file."""
    if (sha256 := hashlib.sha256(content).hexdigest()) != SHA256:
        raise NoNames(
            f"{place} is not names.txt: {len(content)} bytes of sha256 {sha256[:12]} found, "
            f"{SIZE_BYTES} of {SHA256[:12]} required; remove it, or read it by --input={place}"
        )
    return content
