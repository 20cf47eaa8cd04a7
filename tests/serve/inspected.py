"""An app of the inspection routes alone, and models that are asked about."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from nanogpt_jax.models import build, models
from nanogpt_jax.serve.api import Refusal, checkpoints
from nanogpt_jax.serve.api import inspect as routes
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service
from tests.serve.test_payload import read

BYTES = {"accept": "application/octet-stream"}
PROMPT, OTHER = "3 times 4 is 12", "3 times 7 is 12"
FREE = Caps(rate=0)


def app_of(service: Any, caps: Caps = FREE) -> FastAPI:
    """An app of these routes alone, with what guard and app do for them."""
    app = FastAPI()
    app.state.service = service
    app.include_router(routes.build_router(caps))
    app.include_router(checkpoints.router)

    async def refuse(request: Request, refusal: Exception) -> JSONResponse:
        assert isinstance(refusal, Refusal)
        content = refusal.content(request.url.path)
        return JSONResponse(content, refusal.status, refusal.headers)

    async def name_client(request: Request, call: Callable[[Request], Awaitable[Any]]) -> Any:
        request.state.client = request.headers.get("x-client", "one")
        return await call(request)

    app.add_exception_handler(Refusal, refuse)
    app.middleware("http")(name_client)
    return app


def ask(client: Any, what: str, expected: int = 200, **body: Any) -> dict[str, Any]:
    """The JSON of an answer with the expected status."""
    answer = client.post(f"/api/inspect/{what}", json=body)
    assert answer.status_code == expected, answer.text
    return answer.json()


def ask_bytes(client: Any, what: str, **body: Any) -> dict[str, np.ndarray]:
    """The arrays of an answer."""
    answer = client.post(f"/api/inspect/{what}", json=body, headers=BYTES)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    return read(answer.content)[1]


def blind(service: Service) -> Any:
    """A service whose parameters are shapes alone, which no model can run on."""
    served = service.current()
    shapes = jax.eval_shape(lambda: served.run.params)
    run = dataclasses.replace(served.run, params=shapes)
    return SimpleNamespace(current=lambda: served._replace(run=run))


def another_model(service: Service, name: str, *, drawn: bool = False, **fields: int) -> Any:
    """A service of a model without training; its parameters are shapes alone unless `drawn`."""
    served = service.current()
    config = models[name](**fields)
    model = build(name, config, served.run.tokenizer.vocab_size)
    params = (jax.jit(model.init) if drawn else functools.partial(jax.eval_shape, model.init))(
        jax.random.key(0)
    )
    shape = config.shape(served.run.tokenizer.vocab_size)
    run = dataclasses.replace(served.run, model=model, params=params, shape=shape)
    return SimpleNamespace(current=lambda: served._replace(run=run))
