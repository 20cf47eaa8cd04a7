"""A file at an address, to be read like one on the disk: seekable, a block at a time."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

# Few requests for what is read in order, and little that is not needed where it is not.
BLOCK_BYTES = 2**22


def open_remote(size_bytes: int, fetch: Callable[[int, int], bytes]) -> io.BufferedReader:
    """The file whose bytes from start up to stop `fetch(start, stop)` gives."""
    return io.BufferedReader(_Remote(size_bytes, fetch), BLOCK_BYTES)


class _Remote(io.RawIOBase):
    def __init__(self, size_bytes: int, fetch: Callable[[int, int], bytes]):
        self._size_bytes = size_bytes
        self._fetch = fetch
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size_bytes}
        self._place = base[whence] + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        stop = min(self._place + min(len(buffer), BLOCK_BYTES), self._size_bytes)
        if stop <= self._place:
            return 0
        content = self._fetch(self._place, stop)
        buffer[: len(content)] = content
        self._place = stop
        return len(content)
