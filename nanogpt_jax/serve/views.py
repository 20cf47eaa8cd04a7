"""Which checkpoint of which run a request is about, and the refusal where there is no such thing.

What is served is in memory. Of any other run only shapes are known until its parameters are read,
so that what is too much to ask is refused before.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from nanogpt_jax import checkpoint
from nanogpt_jax.errors import Mismatch, NanogptError, NoCheckpoint
from nanogpt_jax.experiment import Loaded, Opened
from nanogpt_jax.interface import Params
from nanogpt_jax.serve.asgi import Refusal
from nanogpt_jax.serve.service import Served, Service


class View(NamedTuple):
    """A checkpoint of a run; the parameters in `run` may be shapes, `read` gives the values.

    It raises Refusal where they cannot be had.
    """

    run: Loaded
    read: Callable[[], Params]


def view_of(service: Service, served: Served, name: str | None, step: int | None) -> View:
    """The checkpoint that is meant; None: the served run, and what is served, or the newest."""
    if name is None or name == service.name_of(served):
        if step is None or step == served.run.step:
            return View(served.run, lambda: served.run.params)
        run = dataclasses.replace(served.run, step=step)
        return View(run, lambda: _had(step, lambda: service.params_at(served, step)))
    opened = open_run(service, name)
    run = _outline(opened, step)
    return View(run, lambda: _had(run.step, lambda: service.library.read(opened, run.step)))


def find_run(service: Service, name: str) -> Path:
    """The directory of a run, by its name."""
    if (workdir := service.find(name)) is None:
        sentence = "the server has no run of this name; GET /api/runs lists those that it has"
        raise Refusal(404, "run_not_found", sentence, field="run")
    return workdir


def open_run(service: Service, name: str) -> Opened:
    """A run by its name, opened."""
    workdir = find_run(service, name)
    try:
        return service.library.open(workdir)
    except NanogptError as error:  # whose message has a path
        sentence = (
            "the files of this run are damaged, or not of this version of the code; put them back, "
            "or choose another run"
        )
        raise Refusal(409, "run_unusable", sentence, field="run") from error


def _outline(opened: Opened, step: int | None) -> Loaded:
    steps = [step] if step is not None else reversed(checkpoint.list_steps(opened.workdir))
    for each in steps:
        with contextlib.suppress(NoCheckpoint, Mismatch):
            return opened.outline(each)
    raise _unknown(step)


def _had(step: int, read: Callable[[], Params]) -> Params:
    try:
        return read()
    except (NoCheckpoint, Mismatch) as error:  # whose message has a path
        raise _unknown(step) from error


def _unknown(step: int | None) -> Refusal:
    which = "no checkpoint yet" if step is None else f"no usable checkpoint {step}"
    sentence = f"the run has {which}; GET /api/run lists those that it has"
    return Refusal(404, "unknown_step", sentence)
