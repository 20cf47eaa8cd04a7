"""`run-<uuid>.json`: what a training run that the server started was asked, and how far it is.

The file is data: reading one starts nothing. Names of checkpoints in it are names, never paths.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nanogpt_jax.serve.recipes import RecipeName
from nanogpt_jax.tokenization.writing import write_whole

Status = Literal["running", "completed", "interrupted", "failed"]
# So that any interval is a number that every part of a run can hold.
MOST_STEPS = 2**31 - 1

_NAME = re.compile(r"run-(?P<run_id>[0-9a-f-]{36})\.step-(?P<step>[0-9]{1,18})")


class TrainingRequest(BaseModel):
    """A run that goes on from a checkpoint, or starts anew, with the served run's config.

    An interval of 0 is the end of the run only. `resume_from` is a step of the served run, or the
    name of a checkpoint in the manifest of another; its parameters are where the run starts, at
    step 0. `recipe` is one that GET /api/recipes lists, and needs new parameters; null is `same`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    train_steps: int
    learning_rate: float
    checkpoint_interval: int = Field(ge=0, le=MOST_STEPS)
    eval_interval: int = Field(ge=0, le=MOST_STEPS)
    resume_from: str | int | None = None
    recipe: RecipeName | None = None


class Manifest(BaseModel):
    """A run in words; losses in nats, times in whole seconds."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    status: Status
    request: TrainingRequest
    started_at_unix: int
    ended_at_unix: int | None = None
    steps_completed: int = 0
    total_steps: int
    training_loss: float | None = None
    value_loss: float | None = None
    steps_per_second: float | None = None
    checkpoints: tuple[str, ...] = ()
    error: str | None = None  # only when failed

    @property
    def seconds_left(self) -> int | None:
        """What is left at the present rate; None when nothing runs or no rate is known."""
        if self.status != "running" or not self.steps_per_second:
            return None
        return round((self.total_steps - self.steps_completed) / self.steps_per_second)

    def as_json(self) -> dict[str, Any]:
        """JSON values; `error` is a key of failed runs alone."""
        return self.model_dump(mode="json", exclude=None if self.error else {"error"})

    def save(self, home: Path) -> None:
        """Writes the manifest to its place: the whole file or none."""
        text = self.model_dump_json(indent=2, exclude=None if self.error else {"error"})
        write_whole(path_of(home, self.run_id), f"{text}\n")


def path_of(home: Path, run_id: str) -> Path:
    """Where the manifest of a run lies; no step of `home`, so nothing takes it for a checkpoint."""
    return home / "checkpoints" / "runs" / f"run-{run_id}.json"


def read(home: Path, run_id: str) -> Manifest | None:
    """The manifest of a run, None where there is none; ValueError if it is damaged."""
    try:
        return Manifest.model_validate_json(path_of(home, run_id).read_bytes())
    except FileNotFoundError:
        return None


def parse_run_id(text: str) -> str | None:
    """`text` as the name of a run, in the one spelling that files have, or None."""
    try:
        run_id = str(uuid.UUID(text))
    except ValueError:
        return None
    return run_id if run_id == text.lower() else None  # no braces, no urn:


def name_checkpoint(run_id: str, step: int) -> str:
    """The name by which the checkpoint of a run is asked for."""
    return f"run-{run_id}.step-{step}"


def parse_checkpoint(name: str) -> tuple[str, int] | None:
    """The run and the step of `name_checkpoint`, or None."""
    found = _NAME.fullmatch(name)
    run_id = parse_run_id(found["run_id"]) if found else None
    return (run_id, int(found["step"])) if found and run_id else None
