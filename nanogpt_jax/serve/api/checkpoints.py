"""GET /api/checkpoints: what the served run has saved, so that a prompt can be seen over training.

It reads sidecars alone, and names no file.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from nanogpt_jax.checkpoint import Sidecar
from nanogpt_jax.checkpoint.retention import best
from nanogpt_jax.serve.service import Service

router = APIRouter(prefix="/api", tags=["inspection"])


class Checkpoint(BaseModel):
    """A saved state of the run; `full`: training can go on from it."""

    step: int
    kind: str
    created: str
    interrupted: bool
    tokens_seen: int
    validation_loss: float | None
    best: bool
    full: bool


class Checkpoints(BaseModel):
    """What can be named as `step`, oldest first, and the one that is served."""

    served: int
    checkpoints: list[Checkpoint]


@router.get("/checkpoints")
async def list_checkpoints(request: Request) -> Checkpoints:
    """What the run has saved."""
    return await run_in_threadpool(_read, request.app.state.service)


def describe(sidecars: Sequence[Sidecar]) -> list[Checkpoint]:
    """Checkpoints as they are told, in their order."""
    lowest = best(sidecars)
    return [
        Checkpoint(
            step=one.step,
            kind=one.kind,
            created=one.created,
            interrupted=one.interrupted,
            tokens_seen=one.tokens_seen,
            validation_loss=one.validation_loss,
            best=one.step == lowest,
            full=one.full,
        )
        for one in sidecars
    ]


def _read(service: Service) -> Checkpoints:
    served = service.current().run.step
    return Checkpoints(served=served, checkpoints=describe(service.checkpoints()))
