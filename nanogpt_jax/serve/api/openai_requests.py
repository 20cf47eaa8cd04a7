"""What OpenAI's API is asked, as far as a small model can answer: fields, types and bounds.

A request is closed: a field that is not here is refused, and so is a value of another type. null
stands for a field that is not given. `top_k`, `min_p` and `repetition_penalty` are ours. What
depends on the model or on the server's caps is checked in openai.py.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nanogpt_jax.decoding import MOST_ALTERNATIVES
from nanogpt_jax.sampling import SETTINGS, Sampling
from nanogpt_jax.tokenization.chat import Message

MOST_CHOICES = 16
MOST_MESSAGES = 256


Prompt = Annotated[str, Field(min_length=1)]
Prompts = Annotated[list[Prompt], Field(min_length=1)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Token = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Field(min_length=1)]
Alternatives = Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class Closed(BaseModel):
    """A request, or a part of one."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Closed):
    """What a stream has besides its pieces."""

    include_usage: bool | None = None


class Options(Closed, abc.ABC):
    """What both kinds of request have in common; the fields of `Sampling` are among them."""

    model: str
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    max_tokens: Count | None = None
    temperature: (
        Annotated[float, Field(ge=0, le=2, description="0: the likeliest token")] | None
    ) = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31, description="ours; 0: all tokens")] | None = None
    min_p: Annotated[float, Field(ge=0, le=1, description="ours")] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100, description="ours")] | None = None
    seed: (
        Annotated[
            int, Field(ge=0, lt=2**32, description="of the first choice, the next has one more")
        ]
        | None
    ) = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="ignored")
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def stops(self) -> Sequence[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def counts_usage(self) -> bool:
        """Whether a stream ends with the counts of its tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def limit(self) -> tuple[str, int | None]:
        """The field that says how many tokens may be drawn, and what it says."""
        return "max_tokens", self.max_tokens

    @property
    @abc.abstractmethod
    def alternatives(self) -> int | None:
        """How many alternatives of each token are asked for; None: no log-probability either."""

    def sampling(self, seed: int) -> Sampling:
        """How the choice of that seed is drawn."""
        given = {name: getattr(self, name) for name in SETTINGS} | {"seed": seed}
        return Sampling(**{name: value for name, value in given.items() if value is not None})


class CompletionRequest(Options):
    """The body of POST /v1/completions."""

    prompt: Prompt | Prompts | Tokens | Annotated[list[Tokens], Field(min_length=1)]
    logprobs: Alternatives | None = None
    echo: bool | None = None
    best_of: Count | None = None
    suffix: str | None = None

    @property
    def prompts(self) -> Sequence[str | Sequence[int]]:
        """One prompt or several, as a list of them."""
        given = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        ids = [each for each in given if isinstance(each, int)]
        return [ids] if ids else [each for each in given if not isinstance(each, int)]

    @property
    def alternatives(self) -> int | None:
        return self.logprobs


class TextPart(Closed):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Closed):
    """What one of the speakers says; a developer is the system."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def said(self) -> Message:
        """The message as the tokenizer's template takes it."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Message("system" if self.role == "developer" else self.role, text)


class ChatRequest(Options):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None

    @property
    def limit(self) -> tuple[str, int | None]:
        if self.max_completion_tokens is None:
            return "max_tokens", self.max_tokens
        return "max_completion_tokens", self.max_completion_tokens

    @property
    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None
