"""Text to tokens and back: what a tokenizer is, and how one is trained, opened and kept.

A kind is one registered class in one file of this package. A tokenizer never inserts a special
token and never reads one out of text: whoever wants one puts its id. Nothing here touches a corpus
or a config.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nanogpt_jax.errors import ConfigError, TokenizerError
from nanogpt_jax.registry import Registry, fields_of, positive, unknown
from nanogpt_jax.tokenization.decoder import Decoder
from nanogpt_jax.tokenization.patterns import DEFAULT, known_pattern
from nanogpt_jax.tokenization.special import BOS, SpecialTokens, special_names
from nanogpt_jax.tokenization.writing import write_whole

Tokens = NDArray[np.int32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a tokenizer that is learned is like; a kind reads the fields that concern it."""

    pattern: Annotated[str, "where a bpe tokenizer cuts text before it merges", known_pattern] = (
        DEFAULT
    )
    min_pair_count: Annotated[
        int, "a bpe tokenizer merges pairs that occur at least so often", positive
    ] = 2
    special_tokens: Annotated[
        SpecialTokens, "bos: the start of a document alone; chat: the twelve of conversations"
    ] = "bos"
    unknown: Annotated[
        Literal["error", "drop"], "what a word tokenizer does with words that it has not learned"
    ] = "error"


DEFAULTS = Options()


class Tokenizer(Protocol):
    """Text to ids and back.

    A kind gives the members without a body; the others follow from them. `<|bos|>` starts a
    document and, as the start of the next one, ends it.
    """

    kind: ClassVar[str]
    exact: ClassVar[bool] = True  # decode(encode(text)) == text, whatever text it can encode
    alphabet_size: ClassVar[int] = 0  # tokens before any is learned; 0: all are the corpus's own
    separator: ClassVar[bytes] = b""  # what a decoded text has between two tokens
    token_bytes: Sequence[bytes]  # the UTF-8 bytes of each id; a special token has none
    special_ids: Mapping[str, int]  # by name, `<|bos|>` among them

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, options: Options = DEFAULTS) -> Self:
        """Learn a vocabulary; `vocab_size` counts special tokens and is a ceiling.

        A kind whose vocabulary is the corpus's own takes any `vocab_size` and follows none.
        """
        ...

    @classmethod
    def parse(cls, content: dict[str, Any], names: Sequence[str] = (BOS,)) -> Self:
        """The tokenizer whose `to_json` is `content`, or TokenizerError saying why it is none.

        The special tokens of `names` that it lacks are appended.
        """
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
        return [self.encode(text) for text in texts]

    @property
    def bos_id(self) -> int:
        """The id of `<|bos|>`."""
        return self.special_ids[BOS]

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids after which a text is over: the start of the next one, and any end it has."""
        return frozenset({self.bos_id})

    def special_id(self, name: str) -> int:
        """The id of the special token called `name`, or TokenizerError when there is none."""
        if name not in self.special_ids:
            raise TokenizerError(
                f"the tokenizer has no special token {name}; special_tokens=chat gives those of "
                "conversations to one that is trained, or opened by tokenizer.path"
            )
        return self.special_ids[name]

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

    def decode(self, ids: Iterable[int], *, show_special: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 leave U+FFFD.

        Special tokens leave nothing, or their names if they are to be shown: a text for people,
        which `encode` reads as any other.
        """
        names = {id_: name.encode() for name, id_ in self.special_ids.items() if show_special}
        pieces = (names.get(token) or self.bytes_of(token) for token in ids)
        return self.separator.join(filter(None, pieces)).decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """A decoder for ids that arrive one at a time."""
        return Decoder(self.bytes_of, self.separator)

    def save(self, path: Path) -> None:
        """Write the tokenizer's file, parent folders included: the whole file or none."""
        write_whole(path, self.to_json())

    @property
    def sha256(self) -> str:
        """A hash of what decides ids and text, and of nothing else in the file."""
        tokens = [token.hex() for token in self.token_bytes]
        others = {name: id_ for name, id_ in self.special_ids.items() if name != BOS}
        # Left out where there are none, so that a run made before there were any keeps its hash.
        content = [self.kind, tokens, self.bos_id, self.rules(), *([others] if others else [])]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


NAME = "tokenizer.json"
LONGEST_CHARACTERS = 1 << 27
tokenizers: Registry[type[Tokenizer]] = Registry("tokenizer", __name__)


def problem(kind: str, vocab_size: int, options: Options = DEFAULTS) -> str | None:
    """What is wrong with asking `train` for this, or None; a config asks before reading a file."""
    if kind not in tokenizers:
        return unknown("tokenizer.kind", kind, tokenizers)
    for name, field in fields_of(Options).items():
        if wrong := field.problem(f"tokenizer.{name}", getattr(options, name)):
            return wrong
    if alphabet := tokenizers[kind].alphabet_size:
        least = alphabet + len(special_names(options.special_tokens))
        if vocab_size < least:
            return (
                f"tokenizer.vocab_size={vocab_size} must be at least {least} for a {kind} "
                f"tokenizer with special_tokens={options.special_tokens}"
            )
    return None


def train(
    kind: str, texts: Iterable[str], vocab_size: int, options: Options = DEFAULTS
) -> Tokenizer:
    """A tokenizer of `kind` learned from `texts`, of at most `vocab_size` tokens.

    One whose vocabulary is the corpus's own has all of it, whatever `vocab_size` is.
    """
    if (wrong := problem(kind, vocab_size, options)) is not None:
        raise ConfigError(wrong)
    return tokenizers[kind].train(texts, vocab_size, options)


def load(path: Path, special_tokens: SpecialTokens = "bos") -> Tokenizer:
    """The tokenizer that `save` wrote to `path`, or a byte-level BPE of Hugging Face's library.

    A folder stands for the tokenizer.json in it. The special tokens that it lacks are appended.
    """
    if path.is_dir() and not (path / NAME).exists():
        raise TokenizerError(
            f"{path} is a folder without {NAME}; a tokenizer file, or a folder that holds one, is "
            "required"
        )
    path = path / NAME if path.is_dir() else path
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(LONGEST_CHARACTERS))
    except OSError as error:
        raise TokenizerError(
            f"{path} cannot be read ({error.strerror}); `python -m nanogpt_jax.tokenizer train` "
            "writes a tokenizer"
        ) from error
    except RecursionError as error:
        raise TokenizerError(f"{path} is not a tokenizer file: nested too deeply") from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise TokenizerError(f"{path} is not a tokenizer file: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} is not a tokenizer file: a JSON object is required")
    kind = str(content.get("kind", "bpe"))  # the library's own files have no kind
    if kind not in tokenizers:
        raise TokenizerError(f"{path}: {unknown('kind', kind, tokenizers)}")
    try:
        return tokenizers[kind].parse(content, special_names(special_tokens))
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def held_names(content: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """The special tokens that a file of ours names, and those of `names` that it does not."""
    held = content.get("special_tokens", [])  # a file written before there were any has none
    if not isinstance(held, list) or not all(isinstance(name, str) for name in held):
        raise TokenizerError(f"special_tokens={held!r}: a list of names is required")
    return tuple(dict.fromkeys((*held, *names)))


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
