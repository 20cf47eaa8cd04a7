"""Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) on the tokenizers library.

The library learns, encodes and keeps the file in its own format, so that its other users read it.
Decoding is ours. Special tokens in text are text: the library would turn a user's "<|bos|>" into
the special token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from absl import logging
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import (
    DEFAULTS,
    Options,
    Tokenizer,
    Tokens,
    require_utf8,
    tokenizers,
)
from nanogpt_jax.tokenization.effort import too_dear
from nanogpt_jax.tokenization.patterns import regex_of
from nanogpt_jax.tokenization.special import BOS, special_names

# Changed by a prefix space, a lower-casing normalizer, or pieces that are not bytes.
PROBE = "A \t(é)  €😀\n"


@tokenizers.named("bpe")
class BpeTokenizer(Tokenizer):
    """Bytes, then merges in the order in which they were learned, then special tokens."""

    kind = "bpe"
    alphabet_size = 256  # every byte

    def __init__(self, library: Library, names: Sequence[str]):
        """Take over a tokenizer of the library, and give it the special tokens that it lacks.

        One with a normalizer gives back the normalized text.
        """
        library.encode_special_tokens = True  # in neither its file nor its pickle
        library.no_truncation()
        library.no_padding()
        library.add_special_tokens([*names])
        self._library = library
        self.token_bytes = bytes_by_id(library)
        added = sorted(library.get_added_tokens_decoder().items())
        self.special_ids = {token.content: id_ for id_, token in added if token.special}
        if not set(self.token_bytes).issuperset(bytes([byte]) for byte in range(256)):
            raise TokenizerError("some bytes have no token; a byte-level BPE is required")
        if self.decode(self.encode(PROBE)) != PROBE:
            raise TokenizerError("it changes text; a byte-level BPE without prefix is required")

    def __reduce__(self):
        return type(self), (self._library, ())

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, options: Options = DEFAULTS) -> Self:
        library = Library(models.BPE())
        library.pre_tokenizer = cut_at(options.pattern)
        library.decoder = decoders.ByteLevel()
        # The constructor adds special tokens, so that they come last and ids follow the learning.
        names = special_names(options.special_tokens)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(names),
            min_frequency=options.min_pair_count,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        library.train_from_iterator(map(require_utf8, texts), trainer)
        if taken := set(names) & library.get_vocab().keys():
            raise TokenizerError(
                f"the corpus teaches {min(taken)}, which is a special token; a pattern that cuts "
                "it, such as compact, is required"
            )
        tokenizer = cls(library, names)
        if tokenizer.vocab_size < vocab_size:
            logging.warning(
                "the tokenizer has %d tokens, %d were asked for: the corpus has no more pairs "
                "that occur %d times",
                tokenizer.vocab_size,
                vocab_size,
                options.min_pair_count,
            )
        return tokenizer

    @classmethod
    def parse(cls, content: dict[str, Any], names: Sequence[str] = (BOS,)) -> Self:
        for pattern in expressions_in(content):
            if reason := too_dear(pattern):
                raise TokenizerError(
                    f"its expression {pattern[:80]!r} could take for ever on some texts: {reason}"
                )
        try:
            library = Library.from_str(json.dumps(content))
        except Exception as error:  # the library has no exception of its own
            raise TokenizerError(f"the tokenizers library refuses it: {error}") from error
        if not isinstance(library.model, models.BPE):
            raise TokenizerError(f"it is a {type(library.model).__name__}; a BPE is required")
        library.model.dropout = None  # a regularizer of training; ids must not be random
        return cls(library, names)

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


def expressions_in(content: object) -> Iterator[str]:
    """Every regular expression in a file of the library, wherever it stands."""
    if isinstance(content, Mapping):
        if isinstance(pattern := content.get("Regex"), str):
            yield pattern
        content = [*content.values()]
    if isinstance(content, list):
        for each in content:
            if isinstance(each, (Mapping, list)):
                yield from expressions_in(each)


def cut_at(pattern: str) -> pre_tokenizers.PreTokenizer:
    """What cuts a text at a pattern, and writes each piece's bytes in the library's alphabet."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex_of(pattern)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


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
