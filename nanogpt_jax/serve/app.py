"""The application: every router, what they share, and how each error is answered.

Routes find what they need in `app.state`: `service`, `caps`, `buckets`, `metrics` and
`training`. Nothing starts or ends here; that is the business of lifecycle.py.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from nanogpt_jax.serve.api import (
    Refusal,
    checkpoints,
    inspect,
    openai,
    pages,
    reference,
    runs,
    status,
    writing,
)
from nanogpt_jax.serve.api import training as training_api
from nanogpt_jax.serve.asgi import GENERATING, full_queue
from nanogpt_jax.serve.completions import GenerationFailed, Mailbox
from nanogpt_jax.serve.engine import NotServing, QueueFull
from nanogpt_jax.serve.guard import Guard
from nanogpt_jax.serve.limits import Buckets, Caps
from nanogpt_jax.serve.metrics import Metrics
from nanogpt_jax.serve.policy import Policy
from nanogpt_jax.serve.service import Service
from nanogpt_jax.serve.training import TrainingRuns

CLIENT_LEFT = 499  # in the log alone: nobody receives it
NOT_SERVING_SECONDS = 2
MOST_PROBLEMS = 5
DESCRIPTION = (
    "A small GPT: text like OpenAI's API below /v1, the reference server's API and a look inside "
    "below /api."
)
WORDS = {
    404: ("not_found", "there is nothing at this path; /docs lists what there is"),
    405: ("method_not_allowed", "this path has other methods; the header Allow lists them"),
}

Handler = Callable[[Request, Any], Response | Awaitable[Response]]


def build_app(
    service: Service,
    caps: Caps,
    training: TrainingRuns | None = None,
    *,
    policy: Policy | None = None,
    pages_from: Path = pages.BUILD,
) -> FastAPI:
    """The routes behind the guard; without `training` nothing can be trained."""
    app = FastAPI(
        title="nanogpt_jax",
        version=importlib.import_module("nanogpt_jax").__version__,
        description=DESCRIPTION,
        redirect_slashes=False,  # a path with a slash too many is another path
        docs_url=None,  # whose page would load its scripts from elsewhere: pages.py has our own
        redoc_url=None,
    )
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.state.service = service
    app.state.caps = caps
    app.state.buckets = Buckets(caps.rate, caps.burst)
    app.state.training = training
    app.state.mailbox = Mailbox()
    app.state.metrics = metrics = Metrics(lambda: service.current().engine)
    for router in (
        openai.router,
        reference.build_router(),
        training_api.router,
        inspect.build_router(caps),
        checkpoints.router,
        runs.router,
        writing.router,
        status.router,
        pages.build_router(pages_from),
    ):
        app.include_router(router)

    def admit(path: str, client: str) -> None:
        if path in GENERATING:
            _check_room(service, client)

    app.add_middleware(Guard, policy=policy, observe=metrics.count_request, admit=admit)
    return app


def _check_room(service: Service, client: str) -> None:
    """Refuses while a full queue is known to be full: soon, so that those in it are served."""
    try:
        service.current().engine.check_room(client)
    except QueueFull as error:
        raise full_queue(error.retry_after_seconds) from error
    except NotServing as error:
        raise _of_no_service(error) from error


def _answer_refusal(request: Request, refusal: Refusal) -> Response:
    return JSONResponse(refusal.content(request.url.path), refusal.status, refusal.headers)


def _answer_wrong_fields(request: Request, error: RequestValidationError) -> Response:
    """Which fields are wrong, and how; of what was written only names that could be fields."""
    problems: dict[str, dict[str, None]] = {}  # what is wrong with each field, once
    for each in error.errors():
        problems.setdefault(_field_of(each["loc"]), {})[each["msg"]] = None
    sentences = [f"{field}: {' or '.join(wrong)}" for field, wrong in problems.items()]
    status = 400 if request.url.path.startswith("/v1/") else 422
    message = "; ".join(sentences[:MOST_PROBLEMS])
    return _answer_refusal(
        request, Refusal(status, "invalid_request", message, field=next(iter(problems)))
    )


def _field_of(place: Sequence[int | str]) -> str:
    """The field of the request that an error is in; what follows may be the name of a type."""
    name = str(place[1]) if len(place) > 1 else str(place[0])
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,40}", name) else "a field"


def _answer_http_error(request: Request, error: HTTPException) -> Response:
    """No route, another method, or a body that is no JSON."""
    headers = {"allow": _allowed(request)} if error.status_code == 405 else {}
    tag, message = WORDS.get(error.status_code, ("bad_request", "the request cannot be read"))
    return _answer_refusal(request, Refusal(error.status_code, tag, message, headers=headers))


def _allowed(request: Request) -> str:
    """All methods of a path; the framework names those of its first route."""
    path = getattr(request.scope.get("route"), "path", "")  # pages of documentation have none
    documented = request.app.openapi()["paths"].get(path, ("get",))
    return ", ".join(sorted(map(str.upper, documented)))


def _of_no_service(error: NotServing) -> Refusal:
    return Refusal(503, "not_serving", str(error), retry_after_seconds=NOT_SERVING_SECONDS)


def _answer_queue_full(request: Request, error: QueueFull) -> Response:
    return _answer_refusal(request, full_queue(error.retry_after_seconds))


def _answer_not_serving(request: Request, error: NotServing) -> Response:
    return _answer_refusal(request, _of_no_service(error))


def _answer_failure(request: Request, error: GenerationFailed) -> Response:
    return _answer_refusal(request, Refusal(500, "generation_failed", str(error)))


def _answer_nobody(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=CLIENT_LEFT)


HANDLERS: dict[type[Exception], Handler] = {
    Refusal: _answer_refusal,
    RequestValidationError: _answer_wrong_fields,
    HTTPException: _answer_http_error,
    QueueFull: _answer_queue_full,
    NotServing: _answer_not_serving,
    GenerationFailed: _answer_failure,
    ClientDisconnect: _answer_nobody,
}
