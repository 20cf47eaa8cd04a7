"""What OpenAI's API answers: the fields of its objects, whole and in streams.

Types alone; openai_writing.py fills them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from nanogpt_jax.serve.engine import Finish


class Usage(BaseModel):
    """Tokens read and drawn."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TokenLogprob(BaseModel):
    """A token, its text's UTF-8 bytes, and its log-probability in nats."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(TokenLogprob):
    """A drawn token and the likeliest in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(BaseModel):
    """The tokens of a chat's answer."""

    content: list[ChatLogprob]


class CompletionLogprobs(BaseModel):
    """The tokens of a completion, a list for each of their properties."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One completion, or a piece of one."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Finish | None = None


class Said(BaseModel):
    """The answer of an assistant."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: Said
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish


class ChatDelta(BaseModel):
    """A piece of an answer, in a stream."""

    index: int
    delta: dict[str, Any]
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish | None = None


class Answer(BaseModel):
    """What every answer and every event begins with."""

    id: str
    created: int
    model: str
    system_fingerprint: str = Field(description="changes with the checkpoint")
    usage: Usage | None = None


class CompletionAnswer(Answer):
    """The answer of /v1/completions; in a stream, an event."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]


class ChatAnswer(Answer):
    """The answer of /v1/chat/completions."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]


class ChatEvent(Answer):
    """An event of a stream of /v1/chat/completions."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChatDelta]


class Model(BaseModel):
    """What is served, by the name of its run directory."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["nanogpt_jax"] = "nanogpt_jax"


class Models(BaseModel):
    """All that is served: one run."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorObject(BaseModel):
    """What is wrong, and with which field."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """How /v1 says no."""

    error: ErrorObject
