"""Conversations as tokens: the template that chat tuning learns and a chat speaks.

`<|bos|>`, then every message between the start and the end of its role. Special tokens are put by
id and contents are encoded as plain text, so nobody can write one. Which records of a corpus are
conversations, and what a loss is taken on, is the business of data/.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nanogpt_jax.errors import DataError
from nanogpt_jax.registry import unknown
from nanogpt_jax.tokenization import Tokenizer, Tokens
from nanogpt_jax.tokenization.special import BOS, ROLES, end_of, start_of


class Message(NamedTuple):
    """What one of `ROLES` says."""

    role: str
    content: str


class Rendered(NamedTuple):
    """A conversation as ids, and for each id whether the assistant wrote it.

    It writes its contents and their end: a model that is not taught the end goes on for ever. The
    start of its turn is put for it.
    """

    ids: Tokens
    written: NDArray[np.bool_]


class ConversationBuilder:
    """Collects messages in a chain: `ConversationBuilder().system("Be brief.").user("Hello.")`."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def push(self, role: str, content: str) -> Self:
        """Add a message; DataError when nobody has that role."""
        _require_role(role, len(self.messages))
        self.messages.append(Message(role, content))
        return self

    def system(self, content: str) -> Self:
        """Add what the assistant is told beforehand."""
        return self.push("system", content)

    def user(self, content: str) -> Self:
        """Add what the user says."""
        return self.push("user", content)

    def assistant(self, content: str) -> Self:
        """Add what the assistant answers."""
        return self.push("assistant", content)


def render(
    tokenizer: Tokenizer, messages: Iterable[tuple[str, str]], *, reply: bool = False
) -> Rendered:
    """The ids of a conversation of (role, content), in order.

    With `reply` the assistant's turn is begun: the prompt for its answer. Raises DataError at a
    role that is none, TokenizerError when the tokenizer lacks the special tokens of a chat.
    """
    ids, written = [tokenizer.special_id(BOS)], [False]
    for number, (role, content) in enumerate(messages):
        _require_role(role, number)
        said = enclose(tokenizer, role, content)
        ids += said.tolist()
        written += [False, *[role == "assistant"] * (len(said) - 1)]
    if reply:
        ids.append(tokenizer.special_id(start_of("assistant")))
        written.append(False)
    return Rendered(np.array(ids, np.int32), np.array(written))


def render_call(tokenizer: Tokenizer, expression: str) -> Tokens:
    """The ids of a Python expression that the assistant wants evaluated, inside its message."""
    return enclose(tokenizer, "python", expression)


def render_output(tokenizer: Tokenizer, text: str) -> Tokens:
    """The ids of what a tool answered, inside the assistant's message but not written by it."""
    return enclose(tokenizer, "output", text)


def enclose(tokenizer: Tokenizer, role: str, text: str) -> Tokens:
    """The ids of `text` between the start and the end of `role`, without `<|bos|>`."""
    start, end = (tokenizer.special_id(name) for name in (start_of(role), end_of(role)))
    return np.concatenate(([start], tokenizer.encode(text), [end]), dtype=np.int32)


def _require_role(role: str, number: int) -> None:
    if role not in ROLES:
        raise DataError(f"message {number}: {unknown('role', role, ROLES)}")
