"""/api/inspect/*: what a model does with a prompt, at any checkpoint of any run.

A question is planned first: the size of its answer follows from shapes, and what is too much is
refused before the model runs. The answers of most are arrays, as JSON or the bytes of
serve/payload.py, by Accept; `text` is answered in inspect_text.py. Nothing is kept.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from nanogpt_jax.serve import inspections, payload, wording
from nanogpt_jax.serve.api import Refusal, inspect_text
from nanogpt_jax.serve.api.asked import read_tokens, require_short
from nanogpt_jax.serve.api.inspect_forms import (
    RESPONSES,
    AblateQuestion,
    AttentionQuestion,
    LensQuestion,
    PatchQuestion,
    Question,
    SilenceQuestion,
    TokensQuestion,
)
from nanogpt_jax.serve.completions import while_connected
from nanogpt_jax.serve.desk import Cost, Desk
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.payload import MEDIA_TYPES, Encoding
from nanogpt_jax.serve.plans import Plan, Prompt, Unanswerable
from nanogpt_jax.serve.service import Served, Service
from nanogpt_jax.serve.views import View, view_of

FORMS: dict[str, type[Question]] = {
    "tokens": TokensQuestion,
    "lens": LensQuestion,
    "attention": AttentionQuestion,
    "ablate": AblateQuestion,
    "silence": SilenceQuestion,
    "patch": PatchQuestion,
}
SMALLER = "choose layers and heads, a shorter prompt, application/octet-stream or float16"


def build_router(caps: Caps) -> APIRouter:
    """The routes, with a bucket of their own for each client.

    They read `app.state.service` and `request.state.client`.
    """
    router = APIRouter(prefix="/api/inspect", tags=["inspection"])
    desk = Desk(caps)
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
    inspect_text.add_route(router, desk)
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
    for field, prompt in question.prompts().items():
        require_short(field, prompt, desk.caps.max_prompt_bytes)
    service: Service = request.app.state.service
    with desk.admit(service) as served:
        planning = (question, service, served, encoding, desk.caps.max_payload_bytes)
        view, plan, cost = await run_in_threadpool(_plan, *planning)
        client = request.state.client
        body = await desk.answer(client, cost, lambda: _run(view, plan, encoding))
    return Response(body, media_type=MEDIA_TYPES[encoding], headers={"Vary": "Accept"})


def _plan(
    question: Question, service: Service, served: Served, encoding: Encoding, max_bytes: int
) -> tuple[View, Plan, Cost]:
    """What is asked, of which checkpoint, within bounds."""
    view = view_of(service, served, question.run, question.step)
    run, longest = view.run, view.run.shape.max_seq_len
    prompts = [
        Prompt(run, read_tokens(run, field, prompt, longest=longest))
        for field, prompt in question.prompts().items()
    ]
    try:
        plan = question.plan(*prompts).at(question.precision)
    except Unanswerable as error:
        raise Refusal(400, "bad_request", str(error)) from error
    cost = Cost(_bound_bytes(plan, encoding), plan.held_bytes, int(plan.flops()))
    cost.require_bounded(max_bytes, SMALLER)
    return view, plan, cost


def _bound_bytes(plan: Plan, encoding: Encoding) -> int:
    """The most that the body can have."""
    run = plan.prompt.run
    named = sum(math.prod(plan.fields[name].shape) for name in _tokens_in(plan))
    texts_bytes = wording.bound_texts_bytes(run.tokenizer, named)
    beside = _beside(plan, 2**53, {})
    return payload.bound_bytes(plan.fields, beside, encoding, more=texts_bytes)


def _run(view: View, plan: Plan, encoding: Encoding) -> bytes:
    """The body of the answer: all that takes long, for a thread."""
    arrays = plan.answer(view.read())
    texts = wording.texts_of(view.run.tokenizer, [arrays[name] for name in _tokens_in(plan)])
    return payload.encode(plan.fields, arrays, _beside(plan, view.run.step, texts), encoding)


def _tokens_in(plan: Plan) -> list[str]:
    return [name for name in inspections.OF_TOKENS if name in plan.fields]


def _beside(plan: Plan, step: int, texts: dict[str, str]) -> dict[str, Any]:
    return {"step": step, **plan.beside, "texts": texts}
