"""POST /api/inspect/text: how a prompt goes on, as any checkpoint of any run writes it.

Beside /api/continue, which streams from the served model: this is one answer, so that the same
prompt can be seen at every step of training. It takes its turn among inspections.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from nanogpt_jax.sampling import SETTINGS, Sampling
from nanogpt_jax.serve.api.asked import Conversation, read_opening, require_short
from nanogpt_jax.serve.api.inspect_forms import RESPONSES, Alternatives, Closed, Ids
from nanogpt_jax.serve.api.writing import WrittenToken, written
from nanogpt_jax.serve.completions import while_connected
from nanogpt_jax.serve.continuation import Continuation, Continued
from nanogpt_jax.serve.desk import Cost, Desk
from nanogpt_jax.serve.plans import Prompt
from nanogpt_jax.serve.service import Served, Service
from nanogpt_jax.serve.views import View, view_of

MOST_TOKENS = 256
SMALLER = "ask for fewer tokens or alternatives"


class TextQuestion(Closed):
    """A prompt, and how it goes on."""

    prompt: Annotated[
        str | Ids | Conversation,
        Field(description="a text, its tokens by id, or a conversation to be answered"),
    ]
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 64
    temperature: Annotated[float, Field(ge=0, le=100, description="0: the likeliest token")] = 1.0
    top_k: Annotated[int, Field(ge=0, lt=2**31, description="0: all tokens")] = 0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100, description="1: none")] = 1.0
    seed: Annotated[
        int | None, Field(ge=0, lt=2**32, description="null: one that the answer tells")
    ] = None
    alternatives: Alternatives = 0

    def sampling(self) -> Sampling:
        """How tokens are drawn; without a seed, one is drawn."""
        given = {name: getattr(self, name) for name in SETTINGS}
        given["seed"] = secrets.randbits(32) if self.seed is None else self.seed
        return Sampling(**given)


class TextAnswer(BaseModel):
    """The prompt's ids and those that follow; `stop`: the text was over."""

    prompt: list[int]
    tokens: list[WrittenToken]
    finish: Literal["stop", "length"]
    seed: int
    step: int


def add_route(router: APIRouter, desk: Desk) -> None:
    """The route, which takes its turn at `desk`."""
    responses = {code: told for code, told in RESPONSES.items() if code not in (200, 406)}

    @router.post("/text", name="inspect_text", responses=responses)
    async def inspect_text(question: TextQuestion, request: Request) -> TextAnswer:
        """Continue a prompt with any checkpoint of any run."""
        return await while_connected(request, _answer(question, request, desk))


async def _answer(question: TextQuestion, request: Request, desk: Desk) -> TextAnswer:
    require_short("prompt", question.prompt, desk.caps.max_prompt_bytes)
    service: Service = request.app.state.service
    with desk.admit(service) as served:
        view, asked = await run_in_threadpool(_plan, question, service, served)
        cost = Cost(asked.size_bytes(), asked.held_bytes(), int(asked.flops()))
        cost.require_bounded(desk.caps.max_payload_bytes, SMALLER)
        run = view.run
        generator = service.library.models.generator(run.model, run.shape.max_seq_len)
        found = await desk.answer(
            request.state.client, cost, lambda: asked.write(generator, view.read())
        )
    return _told(asked, found)


def _plan(question: TextQuestion, service: Service, served: Served) -> tuple[View, Continuation]:
    view = view_of(service, served, question.run, question.step)
    opening = read_opening(view.run, "prompt", question.prompt)
    return view, Continuation(
        prompt=Prompt(view.run, opening.ids),
        stop=opening.stop,
        sampling=question.sampling(),
        max_tokens=opening.limit(question.max_tokens),
        alternatives=question.alternatives,
    )


def _told(asked: Continuation, found: Continued) -> TextAnswer:
    return TextAnswer(
        prompt=list(asked.prompt.tokens),
        tokens=[written(each) for each in found.drawn],
        finish=found.finish,
        seed=asked.sampling.seed,
        step=asked.prompt.run.step,
    )
