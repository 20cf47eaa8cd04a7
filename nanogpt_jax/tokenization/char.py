"""One token per character, in the order of their code points: the smallest tokenizer there is.

It knows the characters that it was trained on and no others; there is no token for "unknown",
because a model that has one learns to write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import (
    DEFAULTS,
    Options,
    Tokenizer,
    Tokens,
    held_names,
    require_utf8,
    tokenizers,
    unknown_character,
)
from nanogpt_jax.tokenization.special import BOS, special_names


@tokenizers.named("char")
class CharTokenizer(Tokenizer):
    """Sorted characters, then special tokens."""

    kind = "char"

    def __init__(self, characters: str, names: Sequence[str]):
        if not characters or list(characters) != sorted(set(characters)):
            raise TokenizerError(
                f"{len(characters)} characters found; at least one is required, each once, "
                "in the order of their code points"
            )
        self.characters = characters
        self.token_bytes = (*map(str.encode, require_utf8(characters)), *(b"" for _ in names))
        self.special_ids = {name: len(characters) + i for i, name in enumerate(names)}
        self._code_points = code_points(characters)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, options: Options = DEFAULTS) -> Self:
        seen: set[str] = set()
        for text in texts:
            seen.update(require_utf8(text))
        return cls("".join(sorted(seen)), special_names(options.special_tokens))

    @classmethod
    def parse(cls, content: dict[str, Any], names: Sequence[str] = (BOS,)) -> Self:
        characters = content.get("characters")
        if not isinstance(characters, str):
            raise TokenizerError(f"characters={characters!r}: a string is required")
        return cls(characters, held_names(content, names))

    def to_json(self) -> str:
        content = {
            "kind": self.kind,
            "characters": self.characters,
            "special_tokens": list(self.special_ids),
        }
        return json.dumps(content, ensure_ascii=False, indent=2) + "\n"

    def rules(self) -> object:
        return None

    def describe(self) -> str:
        return f"char: {self.vocab_size} tokens, of which {len(self.characters)} characters"

    def encode(self, text: str) -> Tokens:
        wanted = code_points(text)
        ids = np.searchsorted(self._code_points, wanted)
        known = self._code_points.take(ids, mode="clip") == wanted
        if not known.all():
            remedy = "train the tokenizer on text that has it, or use a bpe tokenizer"
            raise unknown_character(text, int(np.argmin(known)), remedy)
        return ids.astype(np.int32)


def code_points(text: str) -> np.ndarray:
    """The code point of each character; a lone surrogate counts as one."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
