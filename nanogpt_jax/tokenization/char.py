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
from nanogpt_jax.tokenization import Tokenizer, Tokens, require_utf8, tokenizers, unknown_character


@tokenizers.named("char")
class CharTokenizer(Tokenizer):
    """Sorted characters, then `<|bos|>`."""

    kind = "char"
    min_vocab_size = 0

    def __init__(self, characters: str):
        if not characters or list(characters) != sorted(set(characters)):
            raise TokenizerError(
                f"{len(characters)} characters found; at least one is required, each once, "
                "in the order of their code points"
            )
        self.characters = characters
        self.token_bytes = (*map(str.encode, require_utf8(characters)), b"")
        self.bos_id = len(characters)
        self._code_points = code_points(characters)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        seen: set[str] = set()
        for text in texts:
            seen.update(require_utf8(text))
        return cls("".join(sorted(seen)))

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        characters = content.get("characters")
        if not isinstance(characters, str):
            raise TokenizerError(f"characters={characters!r}: a string is required")
        return cls(characters)

    def to_json(self) -> str:
        content = {"kind": self.kind, "characters": self.characters}
        return json.dumps(content, ensure_ascii=False, indent=2) + "\n"

    def rules(self) -> object:
        return None

    def describe(self) -> str:
        return f"char: {self.vocab_size} tokens, one per character and <|bos|>"

    def encode(self, text: str) -> Tokens:
        wanted = code_points(text)
        ids = np.searchsorted(self._code_points, wanted)
        known = self._code_points.take(ids, mode="clip") == wanted
        if not known.all():
            remedy = "train the tokenizer on text that has it, or use a bpe tokenizer"
            raise unknown_character(text, int(np.argmin(known)), remedy)
        return ids.astype(np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        return [self.encode(text) for text in texts]


def code_points(text: str) -> np.ndarray:
    """The code point of each character; a lone surrogate counts as one."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
