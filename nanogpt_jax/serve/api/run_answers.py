"""What the routes about runs answer: a run in words and numbers, its vocabulary, its curves."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from nanogpt_jax.serve.api.checkpoints import Checkpoint


class Run(BaseModel):
    """A run by what its directory says of itself.

    `created` is when its newest checkpoint was saved, `validation_loss` that of the newest one that
    was measured, in nats per token. `total_steps` is where its training ends.
    """

    name: str
    model: str
    parameters: int
    n_layer: int
    n_head: int
    n_kv_head: int
    d_model: int
    context: int
    corpus: str
    corpus_fingerprint: str
    tokenizer: str
    tokenizer_sha256: str
    vocab_size: int
    steps: Annotated[list[int], Field(description="checkpoints that can be looked at")]
    served_step: Annotated[int | None, Field(description="of the served run alone")]
    total_steps: int | None
    validation_loss: float | None
    training: Annotated[bool, Field(description="a process trains in it now")]
    created: str | None
    tuned: Annotated[bool, Field(description="it was trained on conversations")]


class Runs(BaseModel):
    """The runs that can be asked about, by name, and the one that is served."""

    served: str
    runs: list[Run]


class RunInFull(Run):
    """A run, its checkpoints, and what can be done with it.

    `opening` are the first words of a held-out document, where known. `entropy_nats` is what the
    validation loss would be of a model that knew the corpus's own distribution.
    """

    checkpoints: list[Checkpoint]
    opening: str
    can_chat: bool
    running_text: Annotated[bool, Field(description="one text that has no end to draw")]
    sites: Annotated[list[str], Field(description="points at which the model can be observed")]
    entropy_nats: float | None
    max_tokens: Annotated[int, Field(description="the server's cap on a generation")]
    max_prompt_bytes: int
    version: str


class Vocabulary(BaseModel):
    """The bytes of every token in hexadecimal, empty for special ones, whose names are by id."""

    bytes: list[str]
    special: dict[str, str]


class Curve(BaseModel):
    """A measurement over training; null where it was not finite."""

    steps: list[int]
    values: list[float | None]


class History(BaseModel):
    """What the run has written since, each measurement by name.

    Ask again with `after` = `next`, at once where there is `more`. What is known of steps after
    `rewind` is to be dropped first: the run was resumed there (-1: it is another run's log).
    """

    next: int
    rewind: int | None
    more: bool
    series: dict[str, Curve]
