"""What /api/inspect/* is asked and answers: fields, bounds, and which inspection each form means.

Requests are closed: a field that is not here is refused, and so is a value of another type. How
texts become tokens, and what is too much, is decided in inspect.py.
"""

from __future__ import annotations

import abc
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nanogpt_jax.decoding import MOST_ALTERNATIVES
from nanogpt_jax.serve import inspections
from nanogpt_jax.serve.api.reference_forms import Problem
from nanogpt_jax.serve.payload import MEDIA_TYPES
from nanogpt_jax.serve.plans import Plan, Prompt

Index = Annotated[int, Field(ge=0, lt=2**31)]
Places = Annotated[
    list[Index] | None,
    Field(min_length=1, max_length=1024, description="counted from 0; null: all of them"),
]
Alternatives = Annotated[
    int, Field(ge=0, le=MOST_ALTERNATIVES, description="likeliest tokens at each position")
]


Ids = Annotated[list[Index], Field(min_length=1, max_length=2**16)]
Prompted = Annotated[str | Ids, Field(description="a text, or its tokens by id")]
Head = Annotated[list[Index], Field(min_length=2, max_length=2, description="layer and head")]


class Closed(BaseModel):
    """A question has the fields that are here, with values of their types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    run: Annotated[
        str | None, Field(max_length=512, description="a name of /api/runs; null: what is served")
    ] = None
    step: Annotated[
        int | None,
        Field(
            ge=0, lt=2**53, description="a checkpoint of the run; null: what is served, or the last"
        ),
    ] = None


class Question(Closed, abc.ABC):
    """What every inspection is told that is answered with arrays."""

    precision: Annotated[
        Literal["float32", "float16"], Field(description="of the numbers in the answer")
    ] = "float32"

    @abc.abstractmethod
    def prompts(self) -> dict[str, str | list[int]]:
        """What becomes the prompts of `plan`, by field."""

    @abc.abstractmethod
    def plan(self, *prompts: Prompt) -> Plan:
        """The inspection that is meant; raises Unanswerable."""


class About(Question):
    """A question about one prompt."""

    prompt: Prompted

    def prompts(self) -> dict[str, str | list[int]]:
        """The prompt."""
        return {"prompt": self.prompt}


class TokensQuestion(About):
    """Loss in nats and rank of every token, and the likeliest ones at every position."""

    alternatives: Alternatives = 5

    def plan(self, *prompts: Prompt) -> Plan:
        """What the model expects."""
        return inspections.plan_tokens(*prompts, alternatives=self.alternatives)


class SilenceQuestion(TokensQuestion):
    """The same as `tokens` asks, while some heads and MLPs give zeros."""

    heads: Annotated[list[Head], Field(max_length=1024)] = []
    mlps: Annotated[list[Index], Field(max_length=1024, description="layers")] = []

    def plan(self, *prompts: Prompt) -> Plan:
        """What the model expects without them."""
        chosen = {"heads": self.heads, "mlps": self.mlps}
        return inspections.plan_silence(*prompts, **chosen, alternatives=self.alternatives)


class LensQuestion(About):
    """The same at depths of the residual stream: 0 before the first layer, the last the model's."""

    depths: Places = None
    alternatives: Alternatives = 5

    def plan(self, *prompts: Prompt) -> Plan:
        """What the model would say earlier."""
        return inspections.plan_lens(*prompts, depths=self.depths, alternatives=self.alternatives)


class HeadsQuestion(About):
    """One prompt, and the layers and heads to show."""

    layers: Places = None
    heads: Places = None


class AttentionQuestion(HeadsQuestion):
    """Where every head looks from every token; of a mixture of experts also which ones answer."""

    def plan(self, *prompts: Prompt) -> Plan:
        """What is attended to."""
        return inspections.plan_attention(*prompts, layers=self.layers, heads=self.heads)


class AblateQuestion(HeadsQuestion):
    """Losses of the tokens without each head, and without each MLP."""

    def plan(self, *prompts: Prompt) -> Plan:
        """What every part is for."""
        return inspections.plan_ablation(*prompts, layers=self.layers, heads=self.heads)


class PatchQuestion(Question):
    """Two prompts of one length in tokens: states of `clean` go into the run of `corrupted`."""

    clean: Prompted
    corrupted: Prompted
    site: Literal["residual", "head_out", "mlp_out"] = "residual"
    answer: Annotated[
        Index | None, Field(description="a token; null: what `clean` makes likeliest")
    ] = None

    def prompts(self) -> dict[str, str | list[int]]:
        """Both prompts."""
        return {"clean": self.clean, "corrupted": self.corrupted}

    def plan(self, *prompts: Prompt) -> Plan:
        """What carries the answer."""
        return inspections.plan_patching(*prompts, site=self.site, answer=self.answer)


_FIELDS = {"type": "object", "required": ["fields"], "properties": {"fields": {"type": "object"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Arrays: as nested lists, or as bytes laid out as in serve/payload.py",
        "content": {
            MEDIA_TYPES["json"]: {"schema": _FIELDS},
            MEDIA_TYPES["binary"]: {"schema": {"type": "string", "format": "binary"}},
        },
    },
    400: {"model": Problem, "description": "This model has no answer for this prompt or choice"},
    404: {"model": Problem, "description": "No such run, or no such checkpoint"},
    406: {"model": Problem, "description": "Neither JSON nor bytes are accepted"},
    409: {"model": Problem, "description": "A run that this version cannot read"},
    413: {"model": Problem, "description": "Too large an answer, or too long an inspection"},
    422: {"model": Problem, "description": "A field is missing, not known or of another type"},
    429: {"model": Problem, "description": "Too many inspections of one client"},
    503: {"model": Problem, "description": "Others are waiting already"},
}
