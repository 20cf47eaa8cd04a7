"""Text on its way to a tokenizer: long texts in pieces, pieces in chunks of about a megabyte.

Where a text is cut depends on the text alone, never on the portions in which it arrives. Nothing
here knows a tokenizer or a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# A piece ends at the first good place after so many characters: a tokenizer gives its threads a
# piece each.
PIECE_CHARACTERS = 2**14
# What is encoded, sent and kept in memory at once.
CHUNK_CHARACTERS = 2**20
# After a line that is not blank, or between two words: GPT-2's split pattern takes the last of
# several blank characters apart from the others, so a cut among them would change tokens.
PIECE_END = re.compile(r"(?<=\S)\n(?=\w)|(?<=\w)(?= \w)")


class Chunk(NamedTuple):
    """Pieces that follow each other; `opens` says of each whether a document begins with it."""

    texts: list[str]
    opens: list[bool]


def cut(portions: Iterable[str]) -> Iterator[str]:
    """One text in pieces that end where a line or a word does; joined, they are the text.

    No split pattern that is in use joins a line or a word to the next, so the tokens of the pieces
    are those of the text. A text that never offers such a place is one piece.
    """
    held = ""
    for portion in portions:
        start, searched = 0, max(len(held) - 1, 0)
        held += portion
        while end := PIECE_END.search(held, max(start + PIECE_CHARACTERS, searched)):
            yield held[start : end.end()]
            start = end.end()
        held = held[start:]
    if held:
        yield held


def split(texts: Iterable[str], running: bool) -> Iterator[tuple[str, bool]]:
    """The pieces of documents, each with whether it opens one.

    `running` texts are portions of a single document. Others are cut only when one alone would be
    more than a chunk; a document without text is one empty piece.
    """
    if running:
        yield from _mark_first(cut(texts))
        return
    for text in texts:
        yield from _mark_first(iter([text]) if len(text) <= CHUNK_CHARACTERS else cut([text]))


def _mark_first(pieces: Iterator[str]) -> Iterator[tuple[str, bool]]:
    yield next(pieces, ""), True
    for piece in pieces:
        yield piece, False


def gather(pieces: Iterable[tuple[str, bool]]) -> Iterator[Chunk]:
    """Pieces in chunks: each ends with the piece that fills it, the last one where all do."""
    chunk, size = Chunk([], []), 0
    for text, opens in pieces:
        chunk.texts.append(text)
        chunk.opens.append(opens)
        size += len(text) + 1  # documents without text fill it too
        if size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = Chunk([], []), 0
    if chunk.texts:
        yield chunk
