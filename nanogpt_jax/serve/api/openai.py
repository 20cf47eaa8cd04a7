"""/v1: OpenAI's API, for one small model.

The model goes by the name of its run directory. n choices are n generations, the seed of each one
more than that of the one before; without a seed they differ from call to call. Temperature 0 is
greedy. A generation ends at the end of the context, with `length`. Special tokens spelled in a
prompt are text; a prompt of ids may hold any. What the model cannot do is refused, not ignored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import secrets
import time
import uuid
from collections.abc import Iterator, Sequence

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from nanogpt_jax import slots
from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.api.openai_answers import (
    ChatAnswer,
    CompletionAnswer,
    ErrorAnswer,
    Model,
    Models,
)
from nanogpt_jax.serve.api.openai_requests import (
    MOST_CHOICES,
    ChatRequest,
    CompletionRequest,
    Options,
)
from nanogpt_jax.serve.api.openai_writing import Chatting, Completing, Form, events, usage
from nanogpt_jax.serve.completions import Completions, EventStream, while_connected
from nanogpt_jax.serve.limits import Buckets, Caps
from nanogpt_jax.serve.prompts import chat_prompt, prompt_ids, prompt_text, refuse
from nanogpt_jax.serve.service import Served, Service
from nanogpt_jax.serve.turns import share_of_one

DEFAULT_MAX_TOKENS = 16  # OpenAI's, of a completion
# What OpenAI's API has and we have not, and the value that asks for nothing.
NEUTRAL = {
    "best_of": 1,
    "frequency_penalty": 0,
    "logit_bias": {},
    "presence_penalty": 0,
    "suffix": "",
}
_NO = {"model": ErrorAnswer}
_STREAMED = {"content": {"text/event-stream": {}}, "description": "Whole, or in events"}

router = APIRouter(
    prefix="/v1",
    tags=["OpenAI"],
    responses={
        400: _NO | {"description": "The request is wrong, or asks for what the model cannot do"},
        404: _NO | {"description": "No such model"},
        429: _NO | {"description": "Too many requests; Retry-After says when to come again"},
        503: _NO | {"description": "Not ready, or full; Retry-After says when to come again"},
        "4XX": _NO | {"description": "Refused unread"},
        "5XX": _NO | {"description": "A fault of the server"},
    },
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be generated for a request, and how it is written."""

    field: str  # where the prompts came from
    prompts: Sequence[Sequence[int]]
    stop: frozenset[int]
    max_tokens: int
    form: Form


@router.get("/models")
def list_models(request: Request) -> Models:
    """The run that is served."""
    return Models(data=[_model(request.app.state.service)])


@router.get("/models/{model}")
def show_model(model: str, request: Request) -> Model:
    """The run that is served, if that is its name."""
    service: Service = request.app.state.service
    _require_model(service.current(), model)
    return _model(service)


@router.post("/completions", response_model=CompletionAnswer, responses={200: _STREAMED})
async def complete(asked: CompletionRequest, request: Request) -> Response:
    """Continue a prompt, or several: `n` choices of the first, then those of the next."""
    served: Served = request.app.state.service.current()
    run, given, n = served.run, asked.prompts, asked.n or 1
    if asked.echo and asked.logprobs is not None:
        raise refuse("echo", "a prompt has no log-probabilities here; leave out echo or logprobs")
    texts = [prompt for prompt in given if isinstance(prompt, str)]
    max_tokens = _admit(request, served, asked, "prompt", texts, n * len(given))
    prompts = [await run_in_threadpool(prompt_ids, run, prompt) for prompt in given]
    echoes = [prompt_text(run, prompt) if asked.echo else "" for prompt in given for _ in range(n)]
    work = Work(
        field="prompt",
        prompts=prompts,
        stop=run.tokenizer.stop_ids,
        max_tokens=max_tokens or DEFAULT_MAX_TOKENS,
        form=Completing(run.tokenizer, asked.alternatives, echoes),
    )
    return await _generate(request, served, asked, work)


@router.post("/chat/completions", response_model=ChatAnswer, responses={200: _STREAMED})
async def chat(asked: ChatRequest, request: Request) -> Response:
    """Answer the last message of a conversation."""
    served: Served = request.app.state.service.current()
    if asked.top_logprobs is not None and not asked.logprobs:
        raise refuse("top_logprobs", "needs logprobs=true")
    said = [message.said for message in asked.messages]
    texts = [message.content for message in said]
    max_tokens = _admit(request, served, asked, "messages", texts, asked.n or 1)
    prompt, stop = await run_in_threadpool(chat_prompt, served.run, said)
    work = Work(
        field="messages",
        prompts=[prompt],
        stop=stop,
        max_tokens=max_tokens or request.app.state.caps.max_tokens,
        form=Chatting(served.run.tokenizer, asked.alternatives, asked.n or 1),
    )
    return await _generate(request, served, asked, work)


def _admit(
    request: Request,
    served: Served,
    asked: Options,
    field: str,
    texts: Sequence[str],
    choices: int,
) -> int | None:
    """Refuses what can be refused before anything is tokenised; `max_tokens`, if it was given."""
    caps: Caps = request.app.state.caps
    _require_model(served, asked.model)
    for name, neutral in NEUTRAL.items():
        if getattr(asked, name, None) not in (None, neutral):
            raise refuse(name, f"not supported; leave it out, or send {json.dumps(neutral)}")
    if asked.stream_options and not asked.stream:
        raise refuse("stream_options", "needs stream=true")
    if (asked.top_k or 0) > (most := served.run.tokenizer.vocab_size):
        raise refuse("top_k", f"found {asked.top_k}; at most the {most} tokens there are")
    name, max_tokens = asked.limit
    if max_tokens is not None and max_tokens > caps.max_tokens:
        raise refuse(name, f"found {max_tokens}; at most {caps.max_tokens} are allowed")
    # They are submitted together, and one client may fill half of the queue.
    if choices > (most := min(MOST_CHOICES, share_of_one(caps.queue_length))):
        at_fault = field if asked.n in (None, 1) else "n"
        raise refuse(at_fault, f"found {choices} choices; at most {most} are allowed")
    found = sum(len(text.encode()) for text in texts)
    if found > caps.max_prompt_bytes:
        sentence = f"found {found} bytes of text; at most {caps.max_prompt_bytes} are allowed"
        raise refuse(field, sentence, "string_above_max_length")
    buckets: Buckets = request.app.state.buckets
    if seconds := buckets.take(request.state.client, choices):
        sentence = f"too many requests; come again in {seconds} seconds"
        raise Refusal(429, "rate_limit_exceeded", sentence, retry_after_seconds=seconds)
    return max_tokens


async def _generate(request: Request, served: Served, asked: Options, work: Work) -> Response:
    """The answer, whole or as a stream."""
    _require_room(served, work)
    head = {
        "id": f"{work.form.prefix}-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": f"fp_{served.checkpoint_sha256[:12]}",
    }
    with contextlib.ExitStack() as leaving:
        completions = Completions(
            served.engine,
            served.run.tokenizer,
            client=request.state.client,
            mailbox=request.app.state.mailbox,
            timed=request.app.state.metrics.time_tokens,
        )
        leaving.enter_context(completions)
        for generation in _generations(asked, work):
            completions.submit(generation, asked.stops)
        if asked.stream:
            leaving.pop_all()  # the stream leaves the block in our place
            count = asked.counts_usage
            written = events(work.form, head, completions, work.prompts, counts_usage=count)
            return EventStream(completions, written)
        pieces = await while_connected(request, completions.join())
    head["usage"] = usage(work.prompts, [piece.drawn for piece in pieces])
    answer = work.form.answer(head, pieces)
    return Response(answer.model_dump_json(), media_type="application/json")


def _generations(asked: Options, work: Work) -> Iterator[slots.Request]:
    """One for each choice, those of the first prompt first."""
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    for prompt, choice in itertools.product(work.prompts, range(asked.n or 1)):
        yield slots.Request(
            prompt=prompt,
            sampling=asked.sampling((seed + choice) % 2**32),
            max_tokens=work.max_tokens,
            stop=work.stop,
            alternatives=asked.alternatives or 0,
            overflow="stop",
        )


def _require_room(served: Served, work: Work) -> None:
    context = served.run.shape.max_seq_len
    for prompt in work.prompts:
        if not 1 <= len(prompt) <= context:
            sentence = f"found {len(prompt)} tokens; 1 to {context}, the context, are required"
            raise refuse(work.field, sentence, "context_length_exceeded")


def _require_model(served: Served, name: str) -> None:
    if name != served.workdir.name:
        sentence = f"no such model; {served.workdir.name} is served"
        raise Refusal(404, "model_not_found", sentence, field="model")


def _model(service: Service) -> Model:
    served = service.current()
    try:
        sidecars = service.checkpoints()
    except NoCheckpoint:  # what is served does not depend on what has become of the files
        sidecars = []
    created = (one.created for one in sidecars if one.step == served.run.step)
    moment = datetime.datetime.fromisoformat(next(created, "1970-01-01T00:00:00Z"))
    return Model(id=served.workdir.name, created=int(moment.timestamp()))
