"""One token per word and per punctuation mark, as in RustGPT: a text loses its spaces.

White space parts words, every ASCII punctuation mark is a word of its own, and `</s>` alone between
spaces is one token, which ends a text. It knows the words that it was trained on and no others.
"""

from __future__ import annotations

import json
import re
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
)
from nanogpt_jax.tokenization.special import BOS, special_names

END = "</s>"
# Python takes four separators of ASCII for white space, Unicode and the reference do not.
_VISIBLE = r"[\S\x1c-\x1f]"
_WORDS = r"[!-/:-@\[-`{-~]|(?:[^\s!-/:-@\[-`{-~]|[\x1c-\x1f])+"
WORDS = re.compile(_WORDS)
PIECES = re.compile(rf"(?<!{_VISIBLE}){END}(?!{_VISIBLE})|{_WORDS}")


@tokenizers.named("word")
class WordTokenizer(Tokenizer):
    """Sorted words, then special tokens; decoding joins words with single spaces."""

    kind = "word"
    exact = False
    separator = b" "

    def __init__(self, words: Sequence[str], names: Sequence[str], unknown: str):
        if not words or list(words) != sorted(set(words)):
            raise TokenizerError(
                f"{len(words)} words found; at least one is required, each once, in the order of "
                "their code points"
            )
        self.words = tuple(words)
        self.unknown = unknown
        self.token_bytes = (*(require_utf8(word).encode() for word in words), *(b"" for _ in names))
        self.special_ids = {name: len(words) + i for i, name in enumerate(names)}
        self._ids = {word: id_ for id_, word in enumerate(words)}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, options: Options = DEFAULTS) -> Self:
        # As the reference does it: the marker is a word, and so are the pieces of one in a text.
        words = {END}
        for text in texts:
            words.update(WORDS.findall(require_utf8(text)))
        return cls(sorted(words), special_names(options.special_tokens), options.unknown)

    @classmethod
    def parse(cls, content: dict[str, Any], names: Sequence[str] = (BOS,)) -> Self:
        words, unknown = content.get("words"), content.get("unknown")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TokenizerError("words: a list of strings is required")
        if unknown not in ("error", "drop"):
            raise TokenizerError(f"unknown={unknown!r}: error or drop is required")
        return cls(words, held_names(content, names), unknown)

    @property
    def stop_ids(self) -> frozenset[int]:
        return super().stop_ids | {self._ids[END]} if END in self._ids else super().stop_ids

    def to_json(self) -> str:
        content = {
            "kind": self.kind,
            "words": self.words,
            "unknown": self.unknown,
            "special_tokens": list(self.special_ids),
        }
        return json.dumps(content, ensure_ascii=False, indent=2) + "\n"

    def rules(self) -> object:
        return self.unknown

    def describe(self) -> str:
        return f"word: {self.vocab_size} tokens, of which {len(self.words)} words"

    def encode(self, text: str) -> Tokens:
        pieces = PIECES.finditer(require_utf8(text))
        found = [(piece, self._ids.get(piece.group())) for piece in pieces]
        if self.unknown == "error":
            for piece, id_ in found:
                if id_ is None:
                    raise TokenizerError(
                        f"word {piece.group()!r} at offset {piece.start()} has no token; train the "
                        "tokenizer on text that has it, or with unknown=drop"
                    )
        return np.array([id_ for _, id_ in found if id_ is not None], np.int32)
