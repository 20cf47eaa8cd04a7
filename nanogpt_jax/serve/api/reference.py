"""The reference API: generate with attention, info and health, as the reference server has them.

Fields, the order of the checks and the tags of errors are its own. Two things differ: a run that
was trained on documents ends where a document does, and attention that would be too much to send is
left out. Temperature 0 is refused here alone.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from nanogpt_jax import slots
from nanogpt_jax.experiment import Loaded
from nanogpt_jax.sampling import SETTINGS, Sampling
from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.api.reference_forms import (
    CheckpointHealth,
    Generated,
    GenerateRequest,
    Health,
    Info,
    ModelHealth,
    Problem,
    TokenizerHealth,
)
from nanogpt_jax.serve.completions import Completions, while_connected
from nanogpt_jax.serve.heads import Heads
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.prompts import prompt_ids
from nanogpt_jax.serve.service import Served, Service

# A server that drains is soon replaced.
AWAY_SECONDS = 1

REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "a value is out of range, or the prompt has no tokens"},
    429: {"model": Problem, "description": "too many requests; Retry-After says when to come"},
    503: {"model": Problem, "description": "not ready, or full; Retry-After as well"},
    "4XX": {"model": Problem, "description": "refused before it was read"},
    "5XX": {"model": Problem, "description": "a fault of the server"},
}


def build_router() -> APIRouter:
    """The routes; they read `service`, `caps` and `buckets` from the application's state."""
    router = APIRouter(prefix="/api", tags=["reference"])
    turn = asyncio.Lock()  # looking into the model takes memory: one at a time

    @router.post("/generate", response_model=Generated, responses=REFUSED)
    async def generate(asked: GenerateRequest, request: Request) -> Response:
        """Continue a prompt, and show where every head looked."""
        state = request.app.state
        served, caps = state.service.current(), state.caps
        require_range(asked, caps)
        prompt = await run_in_threadpool(tokens_of, served.run, asked.prompt)
        if seconds := state.buckets.take(request.state.client):
            raise Refusal(
                429,
                "rate_limited",
                f"too many requests; come again in {seconds} seconds",
                retry_after_seconds=seconds,
            )
        tokens = await while_connected(request, _continue(served, asked, prompt, request))
        async with turn:
            body = await run_in_threadpool(_write, served.run, tokens, caps.max_payload_bytes)
        return Response(body, media_type="application/json")

    @router.get("/info")
    async def info(request: Request) -> Info:
        """The served model in numbers."""
        return describe_model(request.app.state.service.current().run)

    @router.get("/health")
    async def health(request: Request) -> Health:
        """What is served, and since when; the process answers as long as it lives."""
        return describe_health(request.app.state.service)

    return router


def require_range(asked: GenerateRequest, caps: Caps) -> None:
    """Refuses values out of range, in the reference's order and before the text is tokenised."""
    if not asked.prompt:
        raise _bad("the prompt is empty; at least one character is required")
    # A lone surrogate has no UTF-8, but it has a length.
    if (found := len(asked.prompt.encode("utf-8", "surrogatepass"))) > caps.max_prompt_bytes:
        raise Refusal(
            400,
            "prompt_too_large",
            f"found {found} bytes of prompt; at most {caps.max_prompt_bytes} are allowed",
            max_bytes=caps.max_prompt_bytes,
            actual_bytes=found,
        )
    if not 1 <= asked.max_tokens <= caps.max_tokens:
        raise Refusal(
            400,
            "max_tokens_out_of_range",
            f"found max_tokens={asked.max_tokens}; 1 to {caps.max_tokens} are allowed",
            max_allowed=caps.max_tokens,
            requested=asked.max_tokens,
        )
    if not asked.temperature > 0:
        raise _bad("temperature must be greater than 0")
    if asked.top_k == 0:
        raise _bad("top_k must be at least 1; leave it out to keep all tokens")


def tokens_of(run: Loaded, prompt: str) -> list[int]:
    """The ids of a prompt as the run begins a text; Refusal where it has none."""
    try:
        tokens = list(prompt_ids(run, prompt))
    except Refusal as refusal:
        raise _bad(refusal.message) from refusal
    if not tokens:
        raise _bad("the tokenizer of this model has no token for any part of the prompt")
    return tokens


def describe_model(run: Loaded) -> Info:
    """The numbers of /api/info."""
    shape, found = run.shape, run.tokenizer.vocab_size
    return Info(
        model_kind=shape.name,
        vocab_size=shape.vocab_size,
        num_layers=shape.n_layer,
        num_heads=shape.n_head,
        block_size=shape.max_seq_len,
        num_experts=_experts(run)[0],
        moe_top_k=_experts(run)[1],
        tokenizer_vocab_size=found,
        model_tokenizer_vocab_match=found == shape.vocab_size,
    )


def describe_health(service: Service) -> Health:
    """What /api/health says: names and hashes, never a path."""
    served = service.current()
    run, shape = served.run, served.run.shape
    return Health(
        status="ok",
        uptime_seconds=round(time.monotonic() - service.started, 3),
        model=ModelHealth(
            kind=shape.name,
            embed_dim=shape.d_model,
            num_heads=shape.n_head,
            num_layers=shape.n_layer,
            block_size=shape.max_seq_len,
            vocab_size=shape.vocab_size,
            num_experts=_experts(run)[0],
            moe_top_k=_experts(run)[1],
        ),
        checkpoint=CheckpointHealth(
            loaded=True,
            source=service.source,
            basename=str(run.step),
            sha256=served.checkpoint_sha256,
        ),
        tokenizer=TokenizerHealth(kind=run.tokenizer.kind, sha256=run.tokenizer.sha256),
    )


async def _continue(
    served: Served, asked: GenerateRequest, prompt: list[int], request: Request
) -> list[int]:
    """The prompt and what follows it, as ids."""
    run = served.run
    given = {name: getattr(asked, name) for name in SETTINGS}
    given = {name: value for name, value in given.items() if value is not None}
    wanted = slots.Request(
        prompt=prompt,
        sampling=Sampling(**{"seed": secrets.randbits(32), **given}),
        max_tokens=asked.max_tokens,
        # Running text has no end to draw.
        stop=frozenset() if run.record.corpus["running"] else run.tokenizer.stop_ids,
    )
    with Completions(
        served.engine,
        run.tokenizer,
        client=request.state.client,
        mailbox=request.app.state.mailbox,
        timed=request.app.state.metrics.time_tokens,
    ) as completions:
        completions.submit(wanted)
        [piece] = await completions.join()
    if piece.finish not in ("stop", "length"):
        raise Refusal(
            503,
            "not_serving",
            "the server ends before the generation; ask again",
            retry_after_seconds=AWAY_SECONDS,
        )
    return prompt + [written.drawn.token for written in piece.tokens]


def _write(run: Loaded, tokens: list[int], cap_bytes: int) -> bytes:
    """The answer for all tokens, with what the heads do if it stays below the cap."""
    decode = run.tokenizer.decode
    head: dict[str, Any] = {
        "generated": decode(tokens),
        "tokens": [decode([token], show_special=True) for token in tokens],
    }
    heads = Heads(run, tokens[-run.shape.max_seq_len :])
    most_bytes = len(json.dumps(head)) + heads.most_bytes
    if most_bytes > cap_bytes:
        omitted = {"bytes": most_bytes, "cap": cap_bytes}
        return json.dumps({**head, "attention_omitted": omitted}).encode()
    return b"".join((json.dumps(head).encode()[:-1], b", ", heads.write(), b"}"))


def _experts(run: Loaded) -> tuple[int, int]:
    """The experts of a layer, and those that answer a token."""
    return getattr(run.plan.model, "n_expert", 0), getattr(run.plan.model, "n_active", 0)


def _bad(message: str) -> Refusal:
    return Refusal(400, "bad_request", message)
