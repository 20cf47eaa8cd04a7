"""`metadata.json`: what a checkpoint says about itself, readable without JAX and without the model.

It is data: a closed schema with a version, no paths, nothing to import. What does not fit the
schema is refused, never guessed.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

from nanogpt_jax.interface import ModelShape

Kind = Literal["periodic", "milestone", "final"]

VERSION = 1
FULL = ("params", "opt_state", "rest", "data")  # `rest`: the step and the random key
PARAMETERS_ONLY = ("params",)
VALIDATION_LOSS = "val/loss"


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """A checkpoint in words; `metrics` are those of this very state, by name."""

    step: int
    kind: Kind
    interrupted: bool
    created: str  # UTC, RFC 3339
    tokens_seen: int
    metrics: dict[str, float]
    items: tuple[str, ...]
    model: ModelShape
    tokenizer_sha256: str
    version: int = VERSION

    @property
    def full(self) -> bool:
        """Whether training can go on from here."""
        return self.items == FULL

    @property
    def validation_loss(self) -> float | None:
        """The validation loss in nats, if it was measured on this state."""
        return self.metrics.get(VALIDATION_LOSS)


def describe(
    step: int,
    kind: Kind,
    *,
    interrupted: bool,
    tokens_seen: int,
    metrics: Mapping[str, float],
    model: ModelShape,
    tokenizer_sha256: str,
) -> Sidecar:
    """The sidecar of a save that happens now; JSON has no NaN, so such a metric is left out."""
    now = datetime.datetime.now(datetime.UTC)
    return Sidecar(
        step=step,
        kind=kind,
        interrupted=interrupted,
        created=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        tokens_seen=tokens_seen,
        metrics={name: float(value) for name, value in metrics.items() if math.isfinite(value)},
        items=PARAMETERS_ONLY if kind == "milestone" else FULL,
        model=model,
        tokenizer_sha256=tokenizer_sha256,
    )


def as_json(sidecar: Sidecar) -> dict[str, Any]:
    """The sidecar as plain JSON values."""
    return dataclasses.asdict(sidecar) | {"model": sidecar.model._asdict()}


_SCHEMA = {
    "step": int,
    "kind": str,
    "interrupted": bool,
    "created": str,
    "tokens_seen": int,
    "metrics": dict,
    "items": list,
    "model": dict,
    "tokenizer_sha256": str,
    "version": int,
}


def parse(text: str) -> Sidecar:
    """The sidecar that `text` writes, or ValueError saying what is wrong with it."""
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise ValueError(f"a JSON object of version {VERSION} is required")
    _require(values, _SCHEMA)
    _require(values["model"], typing.get_type_hints(ModelShape))
    if values["kind"] not in typing.get_args(Kind):
        raise ValueError(f"kind is {values['kind']!r}, one of {typing.get_args(Kind)} is required")
    if tuple(values["items"]) not in (FULL, PARAMETERS_ONLY):
        raise ValueError(f"items is {values['items']}, {FULL} or {PARAMETERS_ONLY} is required")
    for name, value in values["metrics"].items():
        if not isinstance(value, float) or not math.isfinite(value):
            raise ValueError(f"the metric {name} is {value!r}, a finite number is required")
    items, model = tuple(values["items"]), ModelShape(**values["model"])
    return Sidecar(**values | {"items": items, "model": model})


def _require(values: Mapping[str, Any], schema: Mapping[str, type]) -> None:
    for name in sorted(values.keys() ^ schema.keys()):
        raise ValueError(f"{name} is {'missing' if name in schema else 'not known'}")
    for name, kind in schema.items():
        if type(values[name]) is not kind:
            raise ValueError(f"{name} is {values[name]!r}, {kind.__name__} is required")
