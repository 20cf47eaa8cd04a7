"""GET /health, /ready and /metrics: for whoever restarts, routes and watches, not for users.

/health says that the process answers, and nothing more. /ready says that the next request would be
served: it is not while the model loads, drains, stalls or is dead.
"""

from __future__ import annotations

from typing import Literal

import fastapi
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from nanogpt_jax.serve.engine import State

router = fastapi.APIRouter(tags=["status"])

RETRY_SECONDS = 5


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the engine does now."""

    state: State


@router.get("/health")
async def health() -> Alive:
    """Whether the process is alive: it is if it answers."""
    return Alive()


@router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
async def ready(request: fastapi.Request) -> JSONResponse:
    """Whether a request would be served now."""
    state: State = request.app.state.service.current().engine.state
    if state == "ready":
        return JSONResponse({"state": state})
    return JSONResponse({"state": state}, 503, {"retry-after": str(RETRY_SECONDS)})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: fastapi.Request) -> Response:
    """Numbers for Prometheus, of this server alone."""
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE_LATEST)
