"""Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) on the tokenizers library.

The library learns, encodes and keeps the file in its own format, so that its other users read it.
Decoding is ours. Special tokens in text are text: the library would turn a user's "<|bos|>" into
the special token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from absl import logging
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import BOS, Tokenizer, Tokens, require_utf8, tokenizers

# Merges stay inside a piece of this pattern, which is of the family that GPT-2 began (Radford et
# al. 2019): the first alternative that fits wins, and together they cover every character.
PIECES = "|".join(
    (
        "['\u2019](?i:s|t|d|m|ll|ve|re)",  # the endings of English contractions
        r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+",  # a word, with the space or sign before it
        r"\p{N}{1,2}",  # two digits: a small vocabulary has no room for the thousand triples
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",  # punctuation, with the line break after it
        r"\s*[\r\n]+",
        r"\s+(?!\S)",  # spaces but the last, which belongs to the word that follows
        r"\s+",
    )
)

# Changed by a prefix space, a lower-casing normalizer, or pieces that are not bytes.
PROBE = "A \t(é)  €😀\n"


@tokenizers.named("bpe")
class BpeTokenizer(Tokenizer):
    """Bytes, then merges in the order in which they were learned, then special tokens."""

    kind = "bpe"
    min_vocab_size = 257  # every byte and <|bos|>

    def __init__(self, library: Library):
        """Take over a tokenizer of the library, and give it `<|bos|>` where it has none.

        One with a normalizer gives back the normalized text.
        """
        library.encode_special_tokens = True  # in neither its file nor its pickle
        library.no_truncation()
        library.no_padding()
        library.add_special_tokens([BOS])
        self._library = library
        self.token_bytes = bytes_by_id(library)
        self.bos_id = library.get_vocab()[BOS]
        if not set(self.token_bytes).issuperset(bytes([byte]) for byte in range(256)):
            raise TokenizerError("some bytes have no token; a byte-level BPE is required")
        if self.decode(self.encode(PROBE)) != PROBE:
            raise TokenizerError("it changes text; a byte-level BPE without prefix is required")

    def __reduce__(self):
        return type(self), (self._library,)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        library = Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PIECES), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        library.decoder = decoders.ByteLevel()
        # The constructor adds <|bos|>, so that it comes last and ids follow the order of learning.
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False
        )
        library.train_from_iterator(map(require_utf8, texts), trainer)
        tokenizer = cls(library)
        if tokenizer.vocab_size < vocab_size:
            logging.warning(
                "the tokenizer has %d tokens, %d were asked for: the corpus has no more pairs",
                tokenizer.vocab_size,
                vocab_size,
            )
        return tokenizer

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        try:
            library = Library.from_str(json.dumps(content))
        except Exception as error:  # the library has no exception of its own
            raise TokenizerError(f"the tokenizers library refuses it: {error}") from error
        if not isinstance(library.model, models.BPE):
            raise TokenizerError(f"it is a {type(library.model).__name__}; a BPE is required")
        library.model.dropout = None  # a regularizer of training; ids must not be random
        return cls(library)

    def to_json(self) -> str:
        return self._library.to_str(pretty=True) + "\n"

    def rules(self) -> object:
        content = json.loads(self._library.to_str())
        return [content["normalizer"], content["pre_tokenizer"], content["model"]["merges"]]

    def describe(self) -> str:
        merges = sum(len(token) > 1 for token in self.token_bytes)
        return f"bpe: {self.vocab_size} tokens, of which {merges} merges"

    def encode(self, text: str) -> Tokens:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        # The library says of a lone surrogate only that it wants a str.
        texts = [require_utf8(text) for text in texts]
        encodings = self._library.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]


def bytes_by_id(library: Library) -> tuple[bytes, ...]:
    """The UTF-8 bytes of each token of a byte-level vocabulary; special tokens have none."""
    vocabulary = library.get_vocab()
    added = library.get_added_tokens_decoder()
    byte_of = byte_by_character()
    table = [b""] * (max(vocabulary.values()) + 1)
    for token, id_ in vocabulary.items():
        if id_ in added:
            table[id_] = b"" if added[id_].special else token.encode()
        elif byte_of.keys() >= set(token):
            table[id_] = bytes(byte_of[character] for character in token)
        else:
            raise TokenizerError(f"token {token!r} is not of bytes; a byte-level BPE is required")
    return tuple(table)


def byte_by_character() -> dict[str, int]:
    """The byte that each character of the library's alphabet stands for.

    A byte that is a visible character of Latin-1 is written as itself; the others, in order, as
    the characters from U+0100.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    others = (byte for byte in range(256) if chr(byte) not in alphabet)
    return {each: ord(each) if ord(each) < 256 else next(others) for each in alphabet}
