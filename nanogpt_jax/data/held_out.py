"""Batches for evaluation: which held-out rows are measured, and what is known of them.

Nothing here knows a model or a device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanogpt_jax.data.conversations import Chat, Conversations, document_rows
from nanogpt_jax.data.examples import Examples, Windows
from nanogpt_jax.data.feeds import stack
from nanogpt_jax.data.parts import Kept, Part
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch
from nanogpt_jax.tokenization import Tokenizer

# How much held-out text a sample of running text continues.
PROMPT_TOKENS = 16


class HeldOut:
    """The same held-out batches at every evaluation, and what is known of their rows.

    Documents, one a row, where `documents`, else windows that tile the held-out text; of several
    parts, each gives its share of the rows. The last batch is filled up with rows of weight 0.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        tokenizer: Tokenizer,
        *,
        documents: bool,
        length: int,
        batch_size: int,
        rows: int,
        chat: Chat | None = None,
        questions: int = 0,
        framed: bool = True,
    ):
        """With `chat`, `questions` are conversations up to the last answer, and that answer.

        Documents stand between BOS unless not `framed`.
        """
        held = [
            _HeldOutPart(part, tokenizer, documents, length, round(part.share * rows), chat, framed)
            for part in parts
        ]
        self.questions = [
            question
            for part in held
            if isinstance(part.examples, Conversations)
            for question in part.examples.questions(round(questions / len(held)))
        ]
        self.length = max(part.length for part in held)
        self.rows = sum(part.rows for part in held)
        self.nats = np.concatenate([part.nats for part in held])
        self.characters = np.concatenate([part.characters for part in held])
        self.whole = all(part.whole for part in held)
        self.prompt = held[0].prompt
        built = stack([_widen(part.build(), self.length) for part in held])
        self.batches = [
            _fill(_rows(built, first, first + batch_size), batch_size)
            for first in range(0, self.rows, batch_size)
        ]


class _HeldOutPart:
    """The held-out rows of one part, and what is known of them."""

    def __init__(
        self,
        part: Part,
        tokenizer: Tokenizer,
        documents: bool,
        length: int,
        rows: int,
        chat: Chat | None,
        framed: bool,
    ):
        kept = isinstance(part, Kept)
        tokens, running = (part.store.val, part.store.running) if kept else (part.val, False)
        if len(tokens.ids) < 2:
            raise DataError(
                f"the held-out part has {len(tokens.ids)} tokens, at least 2 are needed: "
                "use a longer text or a larger data.val_fraction"
            )
        bos_id = tokenizer.bos_id
        documents = documents and not running
        self.length = length if documents else min(length, len(tokens.ids) - 1)
        self.examples: Examples
        if documents:
            self.examples = document_rows(
                tokens, self.length, tokenizer, chat, framed, kind="held-out conversation"
            )
        else:
            inner_bos = None if running else bos_id
            self.examples = Windows(tokens, self.length, self.length, inner_bos)
        self.rows = min(max(rows, 1), self.examples.count)
        self.nats, self.characters = np.full(self.rows, np.nan), np.zeros(self.rows)
        self.whole = False
        if documents and chat is None:
            self.nats, self.characters = tokens.nats[: self.rows], tokens.characters[: self.rows]
            self.whole = bool(np.all(np.diff(tokens.starts)[: self.rows] <= self.length))
        elif running and len(tokens.nats) == len(tokens.ids):
            # Of a running text the probability of every token is known or of none.
            predicted = slice(1, 1 + self.rows * self.length)
            sizes = np.array([len(token) for token in tokenizer.token_bytes])
            characters = sizes[tokens.ids[predicted]]
            self.nats = tokens.nats[predicted].reshape(self.rows, -1).sum(axis=1)
            self.characters = characters.reshape(self.rows, -1).sum(axis=1)
            self.whole = bool(np.isfinite(self.nats).all())
        # Where a sample starts: a document's beginning, or the first held-out words.
        opening = min(PROMPT_TOKENS, self.length)
        first = 0 if framed else 1  # past a BOS that the model never sees
        self.prompt = tokens.ids[:opening].tolist() if running else [int(tokens.ids[first])]

    def build(self) -> Batch:
        return self.examples.build(np.arange(self.rows))


def _rows(batch: Batch, first: int, last: int) -> Batch:
    return Batch(*(None if field is None else field[first:last] for field in batch))


def _widen(batch: Batch, length: int) -> Batch:
    """`batch` with places of weight 0 up to `length`."""
    return _pad(batch, ((0, 0), (0, length - batch.inputs_BT.shape[1])))


def _fill(batch: Batch, rows: int) -> Batch:
    """`batch` with rows of weight 0 up to `rows`, so that one compiled program serves all."""
    return _pad(batch, ((0, rows - len(batch.inputs_BT)), (0, 0)))


def _pad(batch: Batch, widths: tuple[tuple[int, int], tuple[int, int]]) -> Batch:
    return Batch(*(None if field is None else np.pad(field, widths) for field in batch))
