"""GET /api/runs, /api/run, /api/vocabulary and /api/history: which runs there are, and their story.

All of it is read from run directories as they lie, and no parameter is. Runs are named as in
serve/shelf.py, and no answer has a path of this machine.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from nanogpt_jax import checkpoint, record
from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.experiment import Loaded, Opened
from nanogpt_jax.serve.api.checkpoints import describe
from nanogpt_jax.serve.api.inspect_forms import Problem
from nanogpt_jax.serve.api.portraits import entropy_of, portray
from nanogpt_jax.serve.api.run_answers import Curve, History, Run, RunInFull, Runs, Vocabulary
from nanogpt_jax.serve.history import read_news
from nanogpt_jax.serve.plans import site_shape
from nanogpt_jax.serve.prompts import can_chat
from nanogpt_jax.serve.service import Served, Service
from nanogpt_jax.serve.views import find_run, open_run

router = APIRouter(prefix="/api", tags=["runs"])

SITES = ("residual", "attention", "head_out", "mlp_out", "router")
RunName = Annotated[
    str | None, Query(alias="run", max_length=512, description="left out: the served run")
]
Lines = Annotated[int, Query(ge=0, lt=2**53, description="lines that were read before")]
REFUSED: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No such run"},
    409: {"model": Problem, "description": "A run that this version cannot read"},
    422: {"model": Problem, "description": "A value of another type, or too long"},
}
UNCHANGED = {"description": "The vocabulary has the hash that If-None-Match names"}


@router.get("/runs")
def list_runs(request: Request) -> Runs:
    """The runs that can be asked about, by name; a damaged directory is left out."""
    service: Service = request.app.state.service
    served = service.current()
    own = service.name_of(served)
    found = [_portray_served(service, served)]
    for name in service.shelf.names():
        workdir = service.shelf.find(name)
        if name == own or workdir is None:  # gone meanwhile
            continue
        try:
            found.append(portray(name, workdir, record.read(workdir), None))
        except (NoCheckpoint, ValueError, OSError):
            continue
    return Runs(served=own, runs=sorted(found, key=lambda run: run.name))


@router.get("/run", responses=REFUSED)
def show_run(request: Request, name: RunName = None) -> RunInFull:
    """One run: its checkpoints, and what can be done with it."""
    service: Service = request.app.state.service
    served, caps = service.current(), request.app.state.caps
    known, workdir = _known(service, served, name)
    if known is served.run:
        portrait = _portray_served(service, served)
    else:
        portrait = portray(name or "", workdir, known.record, None)
    sidecars = checkpoint.read_sidecars(workdir)
    return RunInFull(
        **portrait.model_dump(),
        checkpoints=describe(sidecars),
        opening=known.record.corpus.get("opening", ""),
        can_chat=can_chat(known),
        running_text=known.record.corpus["running"],
        sites=[site for site in SITES if site_shape(known.model, site) is not None],
        entropy_nats=entropy_of(sidecars),
        max_tokens=caps.max_tokens,
        max_prompt_bytes=caps.max_prompt_bytes,
        version=importlib.import_module("nanogpt_jax").__version__,
    )


@router.get(
    "/vocabulary",
    response_model=Vocabulary,
    responses={304: UNCHANGED, **REFUSED},
)
def show_vocabulary(
    request: Request,
    name: RunName = None,
    if_none_match: Annotated[str, Header(max_length=1024)] = "",
) -> Response:
    """The bytes of every token of a run. It has an ETag, and a vocabulary never changes."""
    service: Service = request.app.state.service
    known, _ = _known(service, service.current(), name)
    tag = f'"{known.record.tokenizer["sha256"]}"'
    # Kept by browsers, and asked for again each time, which costs a line.
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if tag in if_none_match:
        return Response(status_code=304, headers=headers)
    body = {
        "bytes": [token.hex() for token in known.tokenizer.token_bytes],
        "special": {str(id_): special for special, id_ in known.tokenizer.special_ids.items()},
    }
    return Response(json.dumps(body), media_type="application/json", headers=headers)


@router.get("/history", responses={404: REFUSED[404], 422: REFUSED[422]})
def show_history(request: Request, name: RunName = None, after: Lines = 0) -> History:
    """What a run has measured since the first `after` lines of its log, training or not."""
    service: Service = request.app.state.service
    served = service.current()
    news = read_news(served.workdir if name is None else find_run(service, name), after)
    return History(
        next=news.next,
        rewind=news.rewind,
        more=news.more,
        series={
            measured: Curve(steps=list(values), values=list(values.values()))
            for measured, values in news.series.items()
        },
    )


def _known(service: Service, served: Served, name: str | None) -> tuple[Loaded | Opened, Path]:
    """A run, and where it lies: of what is served, no file is needed."""
    if name is None or name == service.name_of(served):
        return served.run, served.workdir
    opened = open_run(service, name)
    return opened, opened.workdir


def _portray_served(service: Service, served: Served) -> Run:
    name, run = service.name_of(served), served.run
    return portray(name, served.workdir, run.record, run.step)
