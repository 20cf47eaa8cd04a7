"""Text to tokens and back: what a tokenizer is, and how one is trained, opened and kept.

A kind is one registered class in one file of this package. A tokenizer never inserts a special
token and never reads one out of text: whoever wants one puts its id. Nothing here touches a corpus
or a config.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nanogpt_jax.errors import ConfigError, TokenizerError
from nanogpt_jax.registry import Registry, unknown

Tokens = NDArray[np.int32]

BOS = "<|bos|>"


class Tokenizer(Protocol):
    """Text to ids and back: `decode(encode(text)) == text`, whatever the text holds.

    A kind gives the members without a body; the others follow from `token_bytes`. `<|bos|>`
    starts a document and, as the start of the next one, ends it.
    """

    kind: ClassVar[str]
    min_vocab_size: ClassVar[int]  # least that `train` can be asked for; 0 where it takes any
    token_bytes: Sequence[bytes]  # the UTF-8 bytes of each id; a special token has none
    bos_id: int

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """Learn a vocabulary; `vocab_size` counts special tokens and is a ceiling.

        A kind whose vocabulary is the corpus's own takes any `vocab_size` and follows none.
        """
        ...

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        """The tokenizer whose `to_json` is `content`, or TokenizerError saying why it is none."""
        ...

    def to_json(self) -> str:
        """The text of the tokenizer's file: the same for the same tokenizer, byte for byte."""
        ...

    def rules(self) -> object:
        """What decides an encoding besides `token_bytes`, as JSON values."""
        ...

    def describe(self) -> str:
        """What it is made of, in one line."""
        ...

    def encode(self, text: str) -> Tokens:
        """The ids of `text`; TokenizerError names the first character that has none."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """The ids of each text; the fast path for many documents."""
        ...

    @property
    def vocab_size(self) -> int:
        """The number of ids, special tokens included."""
        return len(self.token_bytes)

    def bytes_of(self, token: int) -> bytes:
        """The UTF-8 bytes of one id, which may be a part of a character."""
        if not 0 <= token < self.vocab_size:
            raise TokenizerError(
                f"token {token} is outside the vocabulary of {self.vocab_size}; "
                "mask the ids that only pad the embedding"
            )
        return self.token_bytes[token]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`: special tokens leave nothing, bytes that are no UTF-8 leave U+FFFD."""
        return b"".join(map(self.bytes_of, ids)).decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """A decoder for ids that arrive one at a time."""
        return Decoder(self.bytes_of)

    def save(self, path: Path) -> None:
        """Write the tokenizer's file, parent folders included: the whole file or none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
                file.write(self.to_json())
                file.flush()
                os.fsync(file.fileno())  # else a power cut leaves the name on an empty file
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """A hash of what decides ids and text, and of nothing else in the file."""
        tokens = [token.hex() for token in self.token_bytes]
        content = json.dumps([self.kind, tokens, self.bos_id, self.rules()], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class Decoder:
    """Joins tokens to text as they come and holds back the bytes of an unfinished character.

    Bytes that can no longer become a character are given as U+FFFD at once. (The library's
    DecodeStream keeps a run of them until valid text follows, and has no flush.)
    """

    def __init__(self, bytes_of: Callable[[int], bytes]):
        self._bytes_of = bytes_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that is certain now and was not before; often empty."""
        return self._utf8.decode(self._bytes_of(token))

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        return self._utf8.decode(b"", final=True)


tokenizers: Registry[type[Tokenizer]] = Registry("tokenizer", __name__)


def problem(kind: str, vocab_size: int) -> str | None:
    """What is wrong with asking `train` for this, or None; a config asks before reading a file."""
    if kind not in tokenizers:
        return unknown("tokenizer.kind", kind, tokenizers)
    least = tokenizers[kind].min_vocab_size
    if vocab_size < least:
        return f"tokenizer.vocab_size={vocab_size} must be at least {least} for a {kind} tokenizer"
    return None


def train(kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of `kind` learned from `texts`, of at most `vocab_size` tokens.

    A char tokenizer has the characters of `texts` and `<|bos|>`, whatever `vocab_size` is.
    """
    if (wrong := problem(kind, vocab_size)) is not None:
        raise ConfigError(wrong)
    return tokenizers[kind].train(texts, vocab_size)


def load(path: Path) -> Tokenizer:
    """The tokenizer that `save` wrote to `path`, or a byte-level BPE of Hugging Face's library."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenizerError(
            f"{path} cannot be read ({error.strerror}); `python -m nanogpt_jax.tokenizer train` "
            "writes a tokenizer"
        ) from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise TokenizerError(f"{path} is not a tokenizer file: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} is not a tokenizer file: a JSON object is required")
    kind = str(content.get("kind", "bpe"))  # the library's own files have no kind
    if kind not in tokenizers:
        raise TokenizerError(f"{path}: {unknown('kind', kind, tokenizers)}")
    try:
        return tokenizers[kind].parse(content)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def require_utf8(text: str) -> str:
    """`text` itself, or TokenizerError naming a lone surrogate in it, which has no bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise unknown_character(text, error.start, "drop or replace lone surrogates") from error
    return text


def unknown_character(text: str, offset: int, remedy: str) -> TokenizerError:
    """The error for the character of `text` at `offset`, which no token stands for."""
    found = text[offset]
    return TokenizerError(
        f"character {found!r} (U+{ord(found):04X}) at offset {offset} has no token; {remedy}"
    )
