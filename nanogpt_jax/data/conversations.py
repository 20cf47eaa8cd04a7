"""Records of a corpus as conversations: which are one, how they become tokens, what is learned.

The template is tokenization/chat.py's. A conversation is never cropped: one that does not fit into
a row is a bad record.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from nanogpt_jax.data.corpus import BadRecords, Corpus, Documents, Parts, Stream
from nanogpt_jax.data.examples import Rows
from nanogpt_jax.data.store import Tokens
from nanogpt_jax.errors import DataError, TokenizerError
from nanogpt_jax.interface import Batch
from nanogpt_jax.tokenization import Tokenizer
from nanogpt_jax.tokenization.chat import Message, render
from nanogpt_jax.tokenization.special import ROLES, end_of, start_of

LossOn = Literal["all", "assistant"]

# "User: Hello. Assistant: Hi! </s>", the way in which RustGPT writes conversations.
TURN = re.compile(r"(?:^|(?<=\s))(User|Assistant|System):\s*")
END = "</s>"
REMEDY = 'write {"messages": [{"role": "user", "content": ...}, ...]} or "User: ... Assistant: ..."'


def read_conversation(text: str) -> list[Message]:
    """The messages of a record: OpenAI's JSON, a list of messages, or RustGPT's string.

    Raises DataError saying what is wrong with it.
    """
    text = text.strip()
    if not text.startswith(("{", "[", '"')):
        return _checked(_read_turns(text))
    try:
        record = json.loads(text)
    except ValueError as error:
        raise DataError(f"is not JSON ({error})") from error
    if isinstance(record, str):
        return _checked(_read_turns(record))
    messages = record.get("messages") if isinstance(record, dict) else record
    if not isinstance(messages, list):
        raise DataError("has no list of messages")
    return _checked([_read_message(number, each) for number, each in enumerate(messages)])


def _read_turns(text: str) -> list[Message]:
    before, *found = TURN.split(text.strip().removesuffix(END))
    if before.strip():
        raise DataError(f"begins with {before.strip()[:40]!r}, and nobody says it")
    turns = zip(found[::2], found[1::2], strict=True)
    return [Message(role.lower(), content.strip()) for role, content in turns]


def _read_message(number: int, message: Any) -> Message:
    if not isinstance(message, dict):
        raise DataError(f"message {number} is {message!r}, no object")
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):  # parts, of which only text can be read
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        read = [text for text in texts if isinstance(text, str)]
        content = "".join(read) if len(read) == len(content) else None
    if role not in ROLES:
        raise DataError(f"message {number} has the role {role!r}, not one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise DataError(f"message {number} has no text in its content")
    return Message(role, content)


def _checked(messages: list[Message]) -> list[Message]:
    if not any(message.role == "assistant" for message in messages):
        raise DataError("has no message of the assistant")
    return messages


def conversations_of(corpus: Corpus | Stream, bad: BadRecords) -> Corpus | Stream:
    """`corpus` without the records that are no conversations, about which `bad` decides."""

    def usable(text: str, record: str) -> bool:
        try:
            read_conversation(text)
        except DataError as error:
            bad(f"{corpus.identity}, {record}, {error}", REMEDY)
            return False
        return True

    class Usable:
        """The usable texts of a part, as often as they are asked for."""

        def __init__(self, texts: Iterable[str], part: str):
            self._texts, self._part = texts, part

        def __iter__(self) -> Iterator[str]:
            for number, text in enumerate(self._texts):
                if usable(text, f"{self._part}record {number}"):
                    yield text

    if isinstance(corpus, Corpus):

        def read(val_fraction: float) -> Parts:
            train, val = corpus.read(val_fraction)
            return Parts(
                Documents(Usable(train.texts, "")), Documents(Usable(val.texts, "held-out "))
            )

        return dataclasses.replace(corpus, read=read, skips=bad.limit)

    def documents(position: Any) -> Iterator[tuple[str, Any]]:
        for text, after in corpus.documents(position):
            # A number would begin anew at every position from which the stream is read.
            if usable(text, f"the record before {json.dumps(after)}"):
                yield text, after

    return dataclasses.replace(corpus, documents=documents)


@dataclasses.dataclass(frozen=True)
class Rendering:
    """A tokenizer of records: what the store asks of one, with the template applied."""

    tokenizer: Tokenizer

    @property
    def vocab_size(self) -> int:
        """That of the tokenizer."""
        return self.tokenizer.vocab_size

    @property
    def bos_id(self) -> int:
        """Likewise."""
        return self.tokenizer.bos_id

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """Likewise."""
        return self.tokenizer.token_bytes

    @property
    def sha256(self) -> str:
        """Another one than the tokenizer's: other tokens come out."""
        return f"chat of {self.tokenizer.sha256}"

    def encode(self, text: str) -> np.ndarray:
        """The ids of a conversation after its BOS."""
        return render(self.tokenizer, read_conversation(text)).ids[1:]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Those of each."""
        return [self.encode(text) for text in texts]


class Chat(NamedTuple):
    """How conversations are learned: what the loss is taken on, and what becomes of bad ones."""

    loss_on: LossOn
    bad: BadRecords

    def turns(self, tokenizer: Tokenizer) -> Turns | None:
        """The ids around what is learned; None: everything is."""
        return Turns.of(tokenizer) if self.loss_on == "assistant" else None


class Turns(NamedTuple):
    """The ids that begin and end what the assistant writes."""

    start: int
    end: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Turns:
        """Those of `tokenizer`; TokenizerError where it has none."""
        try:
            ids = [tokenizer.special_id(name("assistant")) for name in (start_of, end_of)]
        except TokenizerError as error:
            raise TokenizerError(
                f"{error}; conversations need a tokenizer of tokenizer.special_tokens=chat"
            ) from error
        return cls(*ids)


def learned(batch: Batch, turns: Turns) -> Batch:
    """`batch` with weight only where the target is the assistant's: its words and their end."""
    opened = np.cumsum(batch.inputs_BT == turns.start, axis=1)
    closed = np.cumsum(batch.inputs_BT == turns.end, axis=1)
    return batch._replace(weights_BT=batch.weights_BT * (opened > closed))


class Conversations(Rows):
    """One conversation a row, padded, never cropped; `kind` names it where it is refused."""

    def __init__(
        self,
        tokens: Tokens,
        length: int,
        tokenizer: Tokenizer,
        chat: Chat,
        kind: str = "conversation",
    ):
        super().__init__(tokens, length, tokenizer.bos_id)
        self._tokenizer = tokenizer
        self._turns = chat.turns(tokenizer)
        lengths = np.diff(tokens.starts)
        for number in np.flatnonzero(lengths > length + 1):
            refuse_long(chat.bad, f"{kind} {number}", int(lengths[number]), length)
        self.usable = np.flatnonzero(lengths <= length + 1)
        self.count = len(self.usable)

    def questions(self, count: int) -> list[tuple[list[int], list[int]]]:
        """What stands before the last answer, and the answer, of the first `count`."""
        start, end = Turns.of(self._tokenizer)
        found = []
        for number in self.usable[:count]:
            ids = self._ids[self._starts[number] : self._starts[number + 1]].tolist()
            begun = len(ids) - ids[::-1].index(start)
            found.append((ids[:begun], ids[begun : ids.index(end, begun)]))
        return found

    def build(self, index_B: np.ndarray) -> Batch:
        """The usable conversations `index_B`."""
        batch = super().build(self.usable[index_B])
        return batch if self._turns is None else learned(batch, self._turns)


def document_rows(
    tokens: Tokens,
    length: int,
    tokenizer: Tokenizer,
    chat: Chat | None,
    framed: bool = True,
    kind: str = "conversation",
) -> Rows:
    """One document a row, between BOS where `framed`: with `chat`, a conversation of `kind`."""
    if chat is None:
        return Rows(tokens, length, tokenizer.bos_id, framed)
    return Conversations(tokens, length, tokenizer, chat, kind)


def refuse_long(bad: BadRecords, name: str, tokens: int, length: int) -> None:
    """A conversation that does not fit into a row is a bad record."""
    bad(
        f"{name} has {tokens} tokens and a row has room for {length + 1}",
        "use a longer train.seq_len (and model.max_seq_len)",
    )
