"""What a request asks about, checked: a text, ids or a conversation, as the run reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from nanogpt_jax.experiment import Loaded
from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.api.openai_requests import MOST_MESSAGES, ChatMessage
from nanogpt_jax.serve.prompts import chat_prompt, prompt_ids
from nanogpt_jax.tokenization.chat import Message

Conversation = Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]


class Opening(NamedTuple):
    """What is to be continued: its ids, those that end what follows, and how much may follow."""

    ids: list[int]
    stop: frozenset[int]
    room: int | None = None  # tokens at most; None: the window slides

    def limit(self, max_tokens: int) -> int:
        """`max_tokens`, or as many as there is room for."""
        return max_tokens if self.room is None else min(max_tokens, self.room)


def require_short(
    field: str, prompt: str | Sequence[int] | Sequence[ChatMessage], max_bytes: int
) -> None:
    """Refuses a long text before it is tokenised, which may take long."""
    said = _said(prompt)
    texts = [prompt] if isinstance(prompt, str) else [message.content for message in said]
    size_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    found = size_bytes if texts else len(prompt)
    if found > max_bytes:
        sentence = f"{field} has {found} {'bytes' if texts else 'tokens'}"
        raise Refusal(
            400,
            "prompt_too_large",
            f"{sentence}; at most {max_bytes} are allowed",
            max_bytes=max_bytes,
            actual_bytes=found,
        )


def read_opening(
    run: Loaded, field: str, prompt: str | Sequence[int] | Sequence[ChatMessage]
) -> Opening:
    """What is to be continued, and where that ends.

    Running text has no end to draw. A conversation ends with the context: once its beginning had
    left the window, nobody could tell who speaks.
    """
    if not (said := _said(prompt)):
        stop = frozenset() if run.record.corpus["running"] else run.tokenizer.stop_ids
        plain = prompt if isinstance(prompt, str) else [n for n in prompt if isinstance(n, int)]
        return Opening(read_tokens(run, field, plain, longest=None), stop)
    context = run.shape.max_seq_len
    ids, stop = chat_prompt(run, said, field)
    _require_length(field, ids, context)
    # The last token of all is drawn and not read, so it may stand one beyond.
    return Opening(list(ids), stop, context - len(ids) + 1)


def read_tokens(
    run: Loaded, field: str, prompt: str | Sequence[int], *, longest: int | None
) -> list[int]:
    """The ids of a prompt, at least one and at most `longest`."""
    try:
        tokens = list(prompt_ids(run, prompt, field))
    except Refusal as refusal:
        raise Refusal(400, "bad_request", refusal.message, field=field) from refusal
    _require_length(field, tokens, longest)
    return tokens


def _require_length(field: str, tokens: Sequence[int], longest: int | None) -> None:
    if not tokens or (longest is not None and len(tokens) > longest):
        required = "at least 1 is" if longest is None else f"1 to {longest} are"
        raise Refusal(
            400,
            "context_length_exceeded",
            f"{field} has {len(tokens)} tokens; {required} required",
            found=len(tokens),
            required=longest or 1,
        )


def _said(prompt: str | Sequence[int] | Sequence[ChatMessage]) -> list[Message]:
    """The messages of a conversation; none of any other prompt."""
    if isinstance(prompt, str):
        return []
    return [each.said for each in prompt if isinstance(each, ChatMessage)]
