"""Text from tokens that arrive one at a time."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class Decoder:
    """Joins tokens to text as they come and holds back the bytes of an unfinished character.

    Bytes that can no longer become a character are given as U+FFFD at once. (The library's
    DecodeStream keeps a run of them until valid text follows, and has no flush.)
    """

    def __init__(self, bytes_of: Callable[[int], bytes], separator: bytes = b""):
        self._bytes_of = bytes_of
        self._separator = separator
        self._before = b""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that is certain now and was not before; often empty."""
        if not (piece := self._bytes_of(token)):
            return ""
        piece, self._before = self._before + piece, self._separator
        return self._utf8.decode(piece)

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        return self._utf8.decode(b"", final=True)
