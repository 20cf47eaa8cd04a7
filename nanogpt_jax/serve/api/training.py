"""/api/train: start a run beside the server, look how far it is, stop it; /api/recipes.

Fields, status codes and tags of errors are the reference server's. Generation goes on meanwhile;
where the device cannot hold both, no run starts. `app.state.training` is None on a server that does
not train.
"""

from __future__ import annotations

from typing import Any, NoReturn

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from nanogpt_jax.errors import NanogptError
from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.api.reference_forms import Problem
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.manifest import Manifest, TrainingRequest, parse_run_id
from nanogpt_jax.serve.recipes import RECIPES, Recipe, UnfitRecipe
from nanogpt_jax.serve.training import (
    RunInProgress,
    TrainingRuns,
    TrainingUnavailable,
    UnknownCheckpoint,
)

RETRY_SECONDS = 30


class Admitted(BaseModel):
    """The name of a run that has started."""

    run_id: str


class RunStatus(Manifest):
    """A run's manifest, and the seconds that it still takes, where that is known."""

    eta_seconds: int | None


STARTING: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "a value is out of range"},
    409: {"model": Problem, "description": "another run is under way"},
    500: {"model": Problem, "description": "files cannot be written"},
    503: {"model": Problem, "description": "this server cannot train"},
    "4XX": {"model": Problem, "description": "refused before it was read"},
}
FINDING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "no such run"},
    500: {"model": Problem, "description": "its manifest is damaged"},
    "4XX": {"model": Problem, "description": "refused before it was read"},
}

router = APIRouter(prefix="/api", tags=["training"])


@router.get("/recipes")
async def list_recipes() -> list[Recipe]:
    """What a run can be made of, by the name that /api/train takes."""
    return list(RECIPES)


# Plain functions: they wait for files, so FastAPI calls them in threads.
@router.post("/train", status_code=202, response_model=Admitted, responses=STARTING)
def start(asked: TrainingRequest, request: Request) -> Response:
    """Start a run with the config of the served one."""
    require_range(asked, request.app.state.caps)
    runs: TrainingRuns | None = request.app.state.training
    if runs is None:
        _refuse_unavailable("this server does not train")
    try:
        return JSONResponse({"run_id": runs.start(asked)}, 202)
    except TrainingUnavailable as error:
        _refuse_unavailable(str(error))
    except (UnknownCheckpoint, UnfitRecipe) as error:
        raise Refusal(400, "bad_request", str(error)) from error
    except RunInProgress as error:
        raise Refusal(
            409,
            "run_in_progress",
            str(error),
            run_id=error.run_id,
            retry_after_seconds=RETRY_SECONDS,
        ) from error
    except (NanogptError, OSError) as error:
        raise Refusal(
            500, "internal", "the run cannot be started; its files may say why"
        ) from error


@router.get("/train/{run_id}", response_model=RunStatus, responses=FINDING)
@router.get("/train/{run_id}/status", response_model=RunStatus, responses=FINDING)
def show(run_id: str, request: Request) -> Response:
    """How far a run is, also one of an earlier start of the server."""
    runs: TrainingRuns | None = request.app.state.training
    known = parse_run_id(run_id)
    try:
        found = runs.find(known) if runs and known else None
    except (ValueError, OSError) as error:
        raise Refusal(500, "internal", "the manifest of this run cannot be read") from error
    if found is None:
        _refuse_unknown(known)
    return JSONResponse({**found.as_json(), "eta_seconds": found.seconds_left})


@router.delete("/train/{run_id}", status_code=202, response_class=Response, responses=FINDING)
def stop(run_id: str, request: Request) -> Response:
    """Ask the run under way to save and end; the served model stays."""
    runs: TrainingRuns | None = request.app.state.training
    known = parse_run_id(run_id)
    if not (runs and known and runs.stop(known)):
        _refuse_unknown(known)
    return Response(status_code=202)


def require_range(asked: TrainingRequest, caps: Caps) -> None:
    """Refuses numbers that are too small or above their caps, and fields that clash.

    The cap itself is allowed.
    """
    ranges = (
        ("train_steps", asked.train_steps, 1 <= asked.train_steps, caps.max_train_steps),
        ("learning_rate", asked.learning_rate, 0 < asked.learning_rate, caps.max_learning_rate),
    )
    for name, requested, large_enough, most in ranges:
        if not (large_enough and requested <= most):
            raise Refusal(
                400,
                f"{name}_out_of_range",
                f"{name} must be greater than 0 and at most {most}",
                max_allowed=most,
                requested=requested,
            )
    if asked.recipe not in (None, "same") and asked.resume_from is not None:
        raise Refusal(
            400,
            "bad_request",
            f"resume_from with recipe={asked.recipe}: those parameters are of another model; "
            "leave one of the two out",
        )


def _refuse_unavailable(message: str) -> NoReturn:
    raise Refusal(503, "training_unavailable", message, retry_after_seconds=RETRY_SECONDS)


def _refuse_unknown(run_id: str | None) -> NoReturn:
    """What is no name of a run is not repeated."""
    raise Refusal(404, "run_not_found", "no run has this name", run_id=run_id)
