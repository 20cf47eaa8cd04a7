"""What the reference API takes and gives; every field has one type, and unknown ones are refused.

Here are types alone: a number of the right type that is out of range is api/reference.py's to name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]


class GenerateRequest(BaseModel):
    """A text to continue, and how; what follows `top_k` is ours, and may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: str
    max_tokens: Count
    temperature: Annotated[float, Field(le=100)]
    top_k: Count | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None


class Head(BaseModel):
    """Where one head looks: from each of the last T tokens, a row, to each of them."""

    layer: int
    head: int
    weights: list[list[float]]


class Route(BaseModel):
    """The K experts that answered each of the last T tokens, and their weights, largest first."""

    layer: int
    experts: list[list[int]]
    weights: list[list[float]]


class Omitted(BaseModel):
    """The most that an answer with attention could have taken, and the most that it may."""

    bytes: int
    cap: int


class Generated(BaseModel):
    """Prompt and continuation, as text and token by token, with what every head looked at.

    `routing` is of mixtures of experts alone. Where `attention_omitted` is, neither is.
    """

    generated: str
    tokens: list[str]
    attention: list[Head] | None = None
    routing: list[Route] | None = None
    attention_omitted: Omitted | None = None


class Info(BaseModel):
    """The served model in numbers; those of experts are 0 where it has none."""

    model_kind: str
    vocab_size: int
    num_layers: int
    num_heads: int
    block_size: int
    num_experts: int
    moe_top_k: int
    tokenizer_vocab_size: int
    model_tokenizer_vocab_match: bool


class ModelHealth(BaseModel):
    """The shape of the model."""

    kind: str
    embed_dim: int
    num_heads: int
    num_layers: int
    block_size: int
    vocab_size: int
    num_experts: int
    moe_top_k: int


class CheckpointHealth(BaseModel):
    """Which state is served; the hash is that of its parameters."""

    loaded: bool
    source: Literal["none", "explicit", "latest"]
    basename: str | None
    sha256: str | None


class TokenizerHealth(BaseModel):
    """Which tokenizer is served."""

    kind: str
    sha256: str


class Health(BaseModel):
    """What is served, since when."""

    status: Literal["ok"]
    uptime_seconds: float
    model: ModelHealth
    checkpoint: CheckpointHealth
    tokenizer: TokenizerHealth


class Problem(BaseModel):
    """Why there is no answer: a tag for programs, a sentence for people, and what they go by."""

    model_config = ConfigDict(extra="allow")

    error: str
    message: str
