"""POST /api/continue: a text goes on, token by token, each with what could have stood in its place.

The route of the inspector. Unlike OpenAI's API it knows tokens by id, slides its window when the
context is full, and lets running text go on past any end. All that can be refused is refused as
JSON before the stream begins; afterwards a stream says itself how it ended.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, RootModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from nanogpt_jax import slots
from nanogpt_jax.decoding import MOST_ALTERNATIVES
from nanogpt_jax.sampling import SETTINGS, Sampling
from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.api.asked import Conversation, Opening, read_opening, require_short
from nanogpt_jax.serve.completions import Completions, EventStream, GenerationFailed
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Served
from nanogpt_jax.slots import Drawn

DEFAULT_MAX_TOKENS = 64
LEAST_LOGPROB = -9999.0  # of what has no probability, as in OpenAI's API: JSON writes no infinity
ENDED = {
    "abort": "the server ends before the text does; ask again",
    "error": "the generation failed; ask again, and the server's log says why",
}

Token = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class ContinueRequest(BaseModel):
    """A text, its ids or a conversation, and how it goes on."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: Annotated[
        str | Annotated[list[Token], Field(min_length=1)] | Conversation,
        Field(
            description="a text, empty: from the beginning of a document; its tokens by id; or a "
            "conversation, to be answered"
        ),
    ]
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] = DEFAULT_MAX_TOKENS
    temperature: Annotated[float, Field(ge=0, le=100, description="0: the likeliest token")] = 1.0
    top_k: Annotated[int, Field(ge=0, lt=2**31, description="0: all tokens")] = 0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100, description="1: none")] = 1.0
    seed: Annotated[
        int | None, Field(ge=0, lt=2**32, description="null: one that the first event tells")
    ] = None
    stop: Annotated[list[Stop], Field(max_length=4, description="texts before which to end")] = []
    alternatives: Annotated[
        int, Field(ge=0, le=MOST_ALTERNATIVES, description="likeliest tokens in each place")
    ] = 0


class Candidate(BaseModel):
    """A token, and its natural logarithm of probability under the unfiltered model."""

    id: int
    logprob: float


class WrittenToken(Candidate):
    """A drawn token; `alternatives` are the likeliest in its place, itself maybe among them."""

    alternatives: list[Candidate]


class Begun(BaseModel):
    """The first event: what is continued, by which state of which run, from which seed."""

    prompt: list[int]
    seed: int
    run: str
    step: int


class Going(BaseModel):
    """Tokens as they come, and the text that became certain with them."""

    tokens: list[WrittenToken]
    text: str


class Ended(BaseModel):
    """The last event; `message` says what to do where the text was cut off."""

    finish: Literal["stop", "length", "abort", "error"]
    message: str | None = None


class ContinueEvent(RootModel[Begun | Going | Ended]):
    """What follows `data: ` in an event of the stream."""


class _Events(JSONResponse):
    """How the routes' description says that the answer is events of JSON; none is made."""

    media_type = EventStream.media_type


# Not by its model: that would be taken for an event, as the answer that is no refusal.
_PROBLEM = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events, each a line `data: ` and JSON"},
    400: _PROBLEM | {"description": "a value is out of range, or the prompt has no tokens"},
    422: _PROBLEM | {"description": "a field is missing, not known or of another type"},
    429: _PROBLEM | {"description": "too many requests; Retry-After says when to come"},
    503: _PROBLEM | {"description": "not ready, or full; Retry-After as well"},
    "4XX": _PROBLEM | {"description": "refused before it was read"},
    "5XX": _PROBLEM | {"description": "a fault of the server"},
}

router = APIRouter(prefix="/api", tags=["inspection"])


@router.post("/continue", response_class=_Events, response_model=ContinueEvent, responses=RESPONSES)
async def continue_text(asked: ContinueRequest, request: Request) -> Response:
    """Continue a text with the served model, as a stream of tokens."""
    state = request.app.state
    served: Served = state.service.current()
    _require_caps(asked, state.caps)
    opening = await run_in_threadpool(read_opening, served.run, "prompt", asked.prompt)
    if seconds := state.buckets.take(request.state.client):
        sentence = f"too many requests; come again in {seconds} seconds"
        raise Refusal(429, "rate_limited", sentence, retry_after_seconds=seconds)
    wanted = request_for(asked, opening)
    begun = Begun(
        prompt=opening.ids,
        seed=wanted.sampling.seed,
        run=state.service.name_of(served),
        step=served.run.step,
    )
    with contextlib.ExitStack() as leaving:
        completions = Completions(
            served.engine,
            served.run.tokenizer,
            client=request.state.client,
            mailbox=state.mailbox,
            timed=state.metrics.time_tokens,
        )
        leaving.enter_context(completions)
        completions.submit(wanted, asked.stop)
        leaving.pop_all()  # the stream leaves the block in our place
    return EventStream(completions, events(begun, completions))


def request_for(asked: ContinueRequest, opening: Opening) -> slots.Request:
    """What the engine is asked; without a seed, one is drawn."""
    given = {name: getattr(asked, name) for name in SETTINGS}
    given["seed"] = secrets.randbits(32) if asked.seed is None else asked.seed
    return slots.Request(
        prompt=opening.ids,
        sampling=Sampling(**given),
        max_tokens=opening.limit(asked.max_tokens),
        stop=opening.stop,
        alternatives=asked.alternatives,
    )


async def events(begun: Begun, completions: Completions) -> AsyncIterator[str]:
    """Server-sent events, the last of which says how it ended."""
    yield _event(begun)
    try:
        async for piece in completions:
            if piece.tokens or piece.text:
                tokens = [written(each.drawn) for each in piece.tokens]
                yield _event(Going(tokens=tokens, text=piece.text))
            if piece.finish == "stop" or piece.finish == "length":
                yield _event(Ended(finish=piece.finish))
            elif piece.finish:
                yield _event(Ended(finish="abort", message=ENDED["abort"]))
    except GenerationFailed:
        yield _event(Ended(finish="error", message=ENDED["error"]))


def written(drawn: Drawn) -> WrittenToken:
    """A drawn token, as an answer has it."""
    others = [Candidate(id=id_, logprob=_finite(logprob)) for id_, logprob in drawn.alternatives]
    return WrittenToken(id=drawn.token, logprob=_finite(drawn.logprob), alternatives=others)


def _finite(logprob: float) -> float:
    return max(LEAST_LOGPROB, logprob)  # in this order NaN is the least, too


def _require_caps(asked: ContinueRequest, caps: Caps) -> None:
    """Refuses more than the server's caps allow, before any text is tokenised."""
    require_short("prompt", asked.prompt, caps.max_prompt_bytes)
    if asked.max_tokens > caps.max_tokens:
        raise Refusal(
            400,
            "max_tokens_out_of_range",
            f"found max_tokens={asked.max_tokens}; 1 to {caps.max_tokens} are allowed",
            max_allowed=caps.max_tokens,
            requested=asked.max_tokens,
        )


def _event(content: BaseModel) -> str:
    return f"data: {content.model_dump_json()}\n\n"
