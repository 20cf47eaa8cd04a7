"""/api/inspect/*: what a model does with a prompt, at any checkpoint of the run.

A question is planned first: the size of its answer follows from shapes, and what is too much is
refused before the model runs. One inspection runs at a time, in a thread; a few wait. An answer is
JSON or the bytes of serve/payload.py, by Accept. Nothing is kept, and nothing generates here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.experiment import Loaded
from nanogpt_jax.serve import inspections, payload, wording
from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.api.inspect_forms import (
    RESPONSES,
    AblateQuestion,
    AttentionQuestion,
    LensQuestion,
    PatchQuestion,
    Question,
    TokensQuestion,
)
from nanogpt_jax.serve.completions import while_connected
from nanogpt_jax.serve.limits import Buckets, Caps
from nanogpt_jax.serve.payload import MEDIA_TYPES, Encoding
from nanogpt_jax.serve.plans import Plan, Prompt, Unanswerable
from nanogpt_jax.serve.prompts import prompt_ids
from nanogpt_jax.serve.service import Served, Service

MOST_WAITING = 4
BUSY_SECONDS = 2
# A small answer can need much more than its size while it is made, and long.
MOST_HELD_BYTES = 100_000_000
MOST_FLOPS = 4 * 10**12  # about a minute of two CPU cores
DEAREST = 10  # requests that the longest inspection counts as

FORMS: dict[str, type[Question]] = {
    "tokens": TokensQuestion,
    "lens": LensQuestion,
    "attention": AttentionQuestion,
    "ablate": AblateQuestion,
    "patch": PatchQuestion,
}
Result = TypeVar("Result")


class Turns:
    """One at a time; a few wait, and who comes then is refused at once. For one event loop."""

    def __init__(self, most_waiting: int):
        self._lock = asyncio.Lock()
        self._room = 1 + most_waiting
        self._present = 0

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """A place for as long as the block lasts, or Refusal."""
        if self._present >= self._room:
            raise Refusal(
                503,
                "inspection_busy",
                f"{self._present} inspections are under way or waiting; come back later",
                retry_after_seconds=BUSY_SECONDS,
            )
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, in a thread; who is cancelled drops it, and it keeps its turn."""
        await self._lock.acquire()
        # A task of its own, because a thread cannot be cancelled and must not meet a second one.
        working = asyncio.ensure_future(run_in_threadpool(work))
        working.add_done_callback(lambda _: self._lock.release())
        return await asyncio.shield(working)


class Desk(NamedTuple):
    """What the questions to one server share."""

    caps: Caps
    turns: Turns
    buckets: Buckets


def build_router(caps: Caps) -> APIRouter:
    """The routes, with a bucket of their own for each client.

    They read `app.state.service` and `request.state.client`.
    """
    router = APIRouter(prefix="/api/inspect", tags=["inspection"])
    desk = Desk(caps, Turns(MOST_WAITING), Buckets(caps.rate, caps.burst))
    for name, form in FORMS.items():
        router.add_api_route(
            f"/{name}",
            _endpoint(form, desk),
            methods=["POST"],
            name=f"inspect_{name}",
            description=form.__doc__,
            response_class=Response,
            responses=RESPONSES,
        )
    return router


def _endpoint(form: type[Question], desk: Desk) -> Callable[[Any, Request], Awaitable[Response]]:
    async def inspect(question: Any, request: Request) -> Response:
        return await while_connected(request, _answer(question, request, desk))

    inspect.__annotations__["question"] = form  # which is where FastAPI looks for the body
    return inspect


async def _answer(question: Question, request: Request, desk: Desk) -> Response:
    """The answer, or the refusal: what is cheap to find out comes first."""
    encoding = payload.negotiate(",".join(request.headers.getlist("accept")))
    if encoding is None:
        allowed = " or ".join(MEDIA_TYPES.values())
        raise Refusal(406, "not_acceptable", f"accept must allow {allowed}")
    for field, text in question.texts().items():
        _require_short(field, text, desk.caps.max_prompt_bytes)
    with desk.turns.enter():
        service: Service = request.app.state.service
        served = service.current()
        if served.engine.state == "draining":
            sentence = "the server is about to end"
            raise Refusal(503, "not_serving", sentence, retry_after_seconds=BUSY_SECONDS)
        planning = (question, served.run, encoding, desk.caps.max_payload_bytes)
        plan, cost = await run_in_threadpool(_plan, *planning)
        if seconds := desk.buckets.take(request.state.client, cost):
            sentence = f"too many inspections; come back in {seconds} seconds"
            raise Refusal(429, "rate_limited", sentence, retry_after_seconds=seconds)
        body = await desk.turns.run(lambda: _run(plan, question.step, encoding, service, served))
    return Response(body, media_type=MEDIA_TYPES[encoding], headers={"Vary": "Accept"})


def _require_short(field: str, text: str, max_bytes: int) -> None:
    """Before tokenising, which may take long."""
    found = len(text.encode("utf-8", "surrogatepass"))
    if found > max_bytes:
        sentence = f"{field} has {found} bytes; at most {max_bytes} are allowed"
        raise Refusal(400, "prompt_too_large", sentence, max_bytes=max_bytes, actual_bytes=found)


def _plan(
    question: Question, run: Loaded, encoding: Encoding, max_bytes: int
) -> tuple[Plan, float]:
    """The plan of an inspection that is within bounds, and how many requests it counts as."""
    prompts = [Prompt(run, _tokens(run, field, text)) for field, text in question.texts().items()]
    try:
        plan = question.plan(*prompts).at(question.precision)
    except Unanswerable as error:
        raise Refusal(400, "bad_request", str(error)) from error
    size_bytes, flops = _bound_bytes(plan, encoding), int(plan.flops())
    _require_bounded(plan, size_bytes, flops, max_bytes)
    return plan, 1 + size_bytes / 2**20 + DEAREST * flops / MOST_FLOPS


def _tokens(run: Loaded, field: str, text: str) -> Sequence[int]:
    try:
        tokens = prompt_ids(run, text, field)
    except Refusal as refusal:
        raise Refusal(400, "bad_request", refusal.message, field=field) from refusal
    longest = run.shape.max_seq_len
    if not 1 <= len(tokens) <= longest:
        sentence = f"{field} has {len(tokens)} tokens; 1 to {longest} are required"
        raise Refusal(400, "context_length_exceeded", sentence, found=len(tokens), required=longest)
    return tokens


def _bound_bytes(plan: Plan, encoding: Encoding) -> int:
    """The most that the body can have."""
    run = plan.prompt.run
    named = sum(math.prod(plan.fields[name].shape) for name in _tokens_in(plan))
    texts_bytes = wording.bound_texts_bytes(run.tokenizer, named)
    beside = _beside(plan, 2**53, {})
    return payload.bound_bytes(plan.fields, beside, encoding, more=texts_bytes)


def _require_bounded(plan: Plan, size_bytes: int, flops: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise Refusal(
            413,
            "payload_too_large",
            f"the answer may take {size_bytes} bytes, {max_bytes} are allowed; choose layers and "
            "heads, a shorter prompt, application/octet-stream or float16",
            bytes=size_bytes,
            max_bytes=max_bytes,
        )
    if plan.held_bytes > MOST_HELD_BYTES:
        raise Refusal(
            413,
            "inspection_too_large",
            f"it takes {plan.held_bytes} bytes of memory, {MOST_HELD_BYTES} are allowed; shorten "
            "the prompt",
            held_bytes=plan.held_bytes,
            max_held_bytes=MOST_HELD_BYTES,
        )
    if flops > MOST_FLOPS:
        raise Refusal(
            413,
            "inspection_too_long",
            f"it takes {flops} operations, {MOST_FLOPS} are allowed; shorten the prompt",
            flops=flops,
            max_flops=MOST_FLOPS,
        )


def _run(
    plan: Plan, step: int | None, encoding: Encoding, service: Service, served: Served
) -> bytes:
    """The body of the answer: all that takes long, for a thread."""
    run = served.run
    params = run.params if step is None else _params_at(step, service, served)
    arrays = plan.answer(params)
    texts = wording.texts_of(run.tokenizer, [arrays[name] for name in _tokens_in(plan)])
    beside = _beside(plan, run.step if step is None else step, texts)
    return payload.encode(plan.fields, arrays, beside, encoding)


def _params_at(step: int, service: Service, served: Served) -> Any:
    try:
        return service.params_at(served, step)
    except NoCheckpoint as error:  # whose message has a path
        raise Refusal(404, "unknown_step", f"the run has no checkpoint {step}") from error


def _tokens_in(plan: Plan) -> list[str]:
    return [name for name in inspections.OF_TOKENS if name in plan.fields]


def _beside(plan: Plan, step: int, texts: dict[str, str]) -> dict[str, Any]:
    return {"step": step, **plan.beside, "texts": texts}
