"""Pieces of text as OpenAI's API writes them: whole or event by event, with log-probabilities.

`Completing` and `Chatting` are its two forms, and have the same members. What is generated, and for
whom, is the business of openai.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.api.openai_answers import (
    ChatAnswer,
    ChatChoice,
    ChatDelta,
    ChatEvent,
    ChatLogprob,
    ChatLogprobs,
    CompletionAnswer,
    CompletionChoice,
    CompletionLogprobs,
    ErrorAnswer,
    Said,
    TokenLogprob,
    Usage,
)
from nanogpt_jax.serve.completions import Completions, GenerationFailed, Piece, Written
from nanogpt_jax.tokenization import Tokenizer

# What OpenAI's API gives for a probability of 0, whose logarithm JSON cannot write.
LEAST_LOGPROB = -9999.0


class Form(Protocol):
    """How the pieces of some choices are written; `head` has the fields of `Answer`."""

    prefix: str  # of an answer's id

    def openings(self, head: dict[str, Any]) -> list[BaseModel]:
        """The events before the first piece."""
        ...

    def event(self, head: dict[str, Any], piece: Piece | None) -> BaseModel:
        """The event of a piece, or the one that has no choices but the usage."""
        ...

    def answer(self, head: dict[str, Any], pieces: Sequence[Piece]) -> BaseModel:
        """The whole answer, of one whole piece for each choice."""
        ...


class Completing:
    """Completions: `echoed` stands before the text of each choice, empty or its prompt."""

    prefix = "cmpl"

    def __init__(self, tokenizer: Tokenizer, alternatives: int | None, echoed: Sequence[str]):
        self._tokenizer = tokenizer
        self._alternatives = alternatives
        self._echoed = echoed

    def openings(self, head: dict[str, Any]) -> list[BaseModel]:
        echoes = [
            CompletionChoice(index=index, text=text)
            for index, text in enumerate(self._echoed)
            if text
        ]
        return [CompletionAnswer(**head, choices=[echo]) for echo in echoes]

    def event(self, head: dict[str, Any], piece: Piece | None) -> BaseModel:
        choices = [] if piece is None else [self._choice(piece, piece.text)]
        return CompletionAnswer(**head, choices=choices)

    def answer(self, head: dict[str, Any], pieces: Sequence[Piece]) -> BaseModel:
        choices = [self._choice(piece, self._echoed[piece.choice] + piece.text) for piece in pieces]
        return CompletionAnswer(**head, choices=choices)

    def _choice(self, piece: Piece, text: str) -> CompletionChoice:
        logprobs = None
        if self._alternatives is not None:
            logprobs = self._logprobs(piece.tokens, len(self._echoed[piece.choice]))
        return CompletionChoice(
            index=piece.choice, text=text, logprobs=logprobs, finish_reason=piece.finish
        )

    def _logprobs(self, tokens: Sequence[Written], before: int) -> CompletionLogprobs:
        named = [describe(self._tokenizer, *written.drawn[:2]) for written in tokens]
        likeliest = [
            [describe(self._tokenizer, *other) for other in written.drawn.alternatives] + [own]
            for written, own in zip(tokens, named, strict=True)
        ]
        return CompletionLogprobs(
            tokens=[own.token for own in named],
            token_logprobs=[own.logprob for own in named],
            top_logprobs=[{each.token: each.logprob for each in others} for others in likeliest]
            if self._alternatives
            else None,
            text_offset=[before + written.offset for written in tokens],
        )


class Chatting:
    """Answers of an assistant."""

    prefix = "chatcmpl"

    def __init__(self, tokenizer: Tokenizer, alternatives: int | None, choices: int):
        self._tokenizer = tokenizer
        self._alternatives = alternatives
        self._choices = choices

    def openings(self, head: dict[str, Any]) -> list[BaseModel]:
        said = Said(content="").model_dump()
        return [
            ChatEvent(**head, choices=[ChatDelta(index=index, delta=said)])
            for index in range(self._choices)
        ]

    def event(self, head: dict[str, Any], piece: Piece | None) -> BaseModel:
        if piece is None:
            return ChatEvent(**head, choices=[])
        delta = ChatDelta(
            index=piece.choice,
            delta={"content": piece.text} if piece.text else {},
            logprobs=self._logprobs(piece.tokens),
            finish_reason=piece.finish,
        )
        return ChatEvent(**head, choices=[delta])

    def answer(self, head: dict[str, Any], pieces: Sequence[Piece]) -> BaseModel:
        choices = [
            ChatChoice(
                index=piece.choice,
                message=Said(content=piece.text),
                logprobs=self._logprobs(piece.tokens),
                finish_reason=piece.finish or "stop",
            )
            for piece in pieces
        ]
        return ChatAnswer(**head, choices=choices)

    def _logprobs(self, tokens: Sequence[Written]) -> ChatLogprobs | None:
        if self._alternatives is None:
            return None
        content = [
            ChatLogprob(
                **describe(self._tokenizer, *written.drawn[:2]).model_dump(),
                top_logprobs=[
                    describe(self._tokenizer, *other) for other in written.drawn.alternatives
                ],
            )
            for written in tokens
        ]
        return ChatLogprobs(content=content)


def describe(tokenizer: Tokenizer, token: int, logprob: float) -> TokenLogprob:
    """A token by its text; `bytes:` and escapes where that is only a part of a character."""
    written = tokenizer.bytes_of(token)
    try:
        text = written.decode()
    except UnicodeDecodeError:
        text = "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)
    if not written:
        text = next((name for name, id_ in tokenizer.special_ids.items() if id_ == token), "")
    # In this order a NaN is taken for the least, too.
    return TokenLogprob(token=text, logprob=max(LEAST_LOGPROB, logprob), bytes=list(written))


def usage(prompts: Sequence[Sequence[int]], drawn: Sequence[int]) -> Usage:
    """The tokens of all prompts, each read once, and of all choices."""
    read, written = sum(map(len, prompts)), sum(drawn)
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


async def events(
    form: Form,
    head: dict[str, Any],
    completions: Completions,
    prompts: Sequence[Sequence[int]],
    *,
    counts_usage: bool,
) -> AsyncIterator[str]:
    """Server-sent events until the last choice has ended; a failure is the last event."""
    for opening in form.openings(head):
        yield _event(opening)
    drawn: dict[int, int] = {}
    try:
        async for piece in completions:
            drawn[piece.choice] = piece.drawn
            yield _event(form.event(head, piece))
    except GenerationFailed as error:
        failure = Refusal(500, "generation_failed", str(error)).content("/v1/")
        yield _event(ErrorAnswer.model_validate(failure))
        return
    if counts_usage:
        counted = head | {"usage": usage(prompts, list(drawn.values()))}
        yield _event(form.event(counted, None))
    yield "data: [DONE]\n\n"


def _event(content: BaseModel) -> str:
    return f"data: {content.model_dump_json()}\n\n"
