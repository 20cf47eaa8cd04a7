"""The first words of the held-out part: a prompt that a model knows how to go on with.

They are read from tokens that are open already, so a run starts no later for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanogpt_jax.data.parts import Kept, Part
from nanogpt_jax.tokenization import Tokenizer
from nanogpt_jax.tokenization.special import end_of, start_of

# Of byte-level tokens four make a character at most, and a first line is left out.
READ_TOKENS = 1024


def first_words(
    parts: Sequence[Part], tokenizer: Tokenizer, *, chat: bool, most_characters: int
) -> str:
    """Whole words, as many as fit; "" where nothing is held out.

    Of documents it is the first of them, of conversations what its user says first. Running text is
    held out from anywhere on, so there it is the first whole line, or the first whole word.
    """
    part = parts[0]
    kept = isinstance(part, Kept)
    tokens, running = (part.store.val, part.store.running) if kept else (part.val, False)
    if not len(tokens.ids):
        return ""
    end = READ_TOKENS if running else min(READ_TOKENS, int(tokens.starts[1]))
    ids = np.asarray(tokens.ids[:end]).tolist()
    text = tokenizer.decode(_said_by_the_user(ids, tokenizer) if chat else ids)
    return whole_words(_from_a_beginning(text) if running else text, most_characters)


def whole_words(text: str, most_characters: int) -> str:
    """The words at the beginning of `text` that fit; a part of the first where none does."""
    text = text.rstrip("\ufffd").strip()  # half a character, where the tokens were cut
    if len(text) <= most_characters:
        return text
    fitting = text[: most_characters + 1]
    words = fitting.rsplit(maxsplit=1)
    whole = fitting if fitting[-1].isspace() else words[0] if len(words) > 1 else fitting[:-1]
    return whole.rstrip()


def _said_by_the_user(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """The ids of the user's first message."""
    start, end = (tokenizer.special_id(name("user")) for name in (start_of, end_of))
    if start not in ids:
        return []
    said = ids[ids.index(start) + 1 :]
    return said[: said.index(end)] if end in said else said


def _from_a_beginning(text: str) -> str:
    """`text` without the end of a line, or of a word, that it may begin with."""
    _, broken, lines = text.partition("\n")
    if broken and lines.strip():
        return lines
    words = text.split(maxsplit=1)
    return words[1] if len(words) > 1 else text
