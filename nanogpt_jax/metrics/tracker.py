"""Weights & Biases and trackio, for runs that are followed on a page elsewhere.

Either package is imported only when asked for. Accounts, servers and offline mode are theirs to
configure, by their environment variables.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from nanogpt_jax.errors import MissingExtra
from nanogpt_jax.metrics.writer import Writer

TrackerKind = Literal["none", "wandb", "trackio"]

_PROJECT = "nanogpt_jax"


def open_tracker(kind: Literal["wandb", "trackio"], directory: Path) -> Writer:
    """A run of that tracker: the same one each time that the run in `directory` goes on.

    Raises MissingExtra if the package is not installed.
    """
    try:
        package = importlib.import_module(kind)
    except ModuleNotFoundError as error:
        if error.name != kind:
            raise
        raise MissingExtra(f"log.tracker={kind}", kind) from error
    return {"wandb": _Wandb, "trackio": _Trackio}[kind](package, directory)


class _Wandb(Writer):
    def __init__(self, wandb: Any, directory: Path):
        self._wandb = wandb
        self._run = wandb.init(
            project=_PROJECT,
            name=directory.resolve().name,
            id=_identity(directory),
            dir=str(directory),
            resume="allow",
            settings={"console": "off"},
        )
        # W&B's own step only grows: a resumed run would lose the steps that it repeats.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def text(self, step: int, name: str, text: str) -> None:
        block = f"<pre>{html.escape(text)}</pre>"
        self._run.log({name: self._wandb.Html(block, data_is_not_path=True), "step": step})

    def config(self, values: Mapping[str, object]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def close(self) -> None:
        self._run.finish()


class _Trackio(Writer):
    def __init__(self, trackio: Any, directory: Path):
        self._trackio = trackio
        name = f"{directory.resolve().name}-{_identity(directory)}"  # resumed by its name
        with contextlib.redirect_stdout(sys.stderr):  # it prints how to see the run
            self._run = trackio.init(project=_PROJECT, name=name, resume="allow", embed=False)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        self._run.log({name: self._trackio.Markdown(f"~~~\n{text}\n~~~")}, step=step)

    def config(self, values: Mapping[str, object]) -> None:
        self._run.config.update(values)  # sent with the first log

    def close(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._trackio.finish()  # run.finish() would be repeated, on stdout, at exit


def _identity(directory: Path) -> str:
    """A name that no other run has, and that a moved directory keeps."""
    path = directory / "tracker_id"
    if not path.exists():
        path.write_text(secrets.token_hex(4) + "\n")
    return path.read_text().strip()
