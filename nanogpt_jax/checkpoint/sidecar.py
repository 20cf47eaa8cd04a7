"""`metadata.json`: what a checkpoint says about itself, readable without JAX and without the model.

It is data: a closed schema with a version and ranges, no paths but those of its own files, nothing
to import. What does not fit the schema is refused, never guessed.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from nanogpt_jax.checkpoint.environment import Environment
from nanogpt_jax.checkpoint.inventory import MOST_FILES, Mark
from nanogpt_jax.checkpoint.strict import parse_json, read_text
from nanogpt_jax.interface import ModelShape

Kind = Literal["periodic", "milestone", "final"]

VERSION = 2
FULL = ("params", "opt_state", "rest", "data")  # `rest`: the step and the random key
PARAMETERS_ONLY = ("params",)
VALIDATION_LOSS = "val/loss"

LONGEST_BYTES = 1 << 20
LARGEST = 2**53  # what every reader of JSON counts exactly
_LONGEST_TEXT = 4096
_LONGEST_NAME = 256
_MOST_METRICS = 1024
# A path below the folder of its checkpoint: no part is empty, `.` or `..`.
_FILE = re.compile(r"(?!\.{1,2}(/|$))[\w.+-]+(/(?!\.{1,2}(/|$))[\w.+-]+)*", re.ASCII)
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """A checkpoint in words; `metrics` are those of this very state, by name.

    `files` are all of its folder but the sidecar, by their paths in it. `log_sha256` is the last
    hash in metrics.jsonl when the state was saved, or empty.
    """

    step: int
    kind: Kind
    interrupted: bool
    created: str  # UTC, RFC 3339
    tokens_seen: int
    metrics: dict[str, float]
    items: tuple[str, ...]
    model: ModelShape
    tokenizer_sha256: str
    environment: Environment
    log_sha256: str = ""
    files: Mapping[str, Mark] = dataclasses.field(default_factory=dict)
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
    environment: Environment,
    log_sha256: str = "",
) -> Sidecar:
    """The sidecar of a save that happens now, but for its files.

    JSON has no NaN, so such a metric is left out.
    """
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
        environment=environment,
        log_sha256=log_sha256,
    )


def compose(sidecar: Sidecar) -> str:
    """The text of a sidecar; ValueError where it would not be read back."""
    text = json.dumps(as_json(sidecar), indent=2, allow_nan=False)
    parse(text)
    return text


def as_json(sidecar: Sidecar) -> dict[str, Any]:
    """The sidecar as plain JSON values, sealed."""
    names = [field.name for field in dataclasses.fields(sidecar)]
    values: dict[str, Any] = {name: getattr(sidecar, name) for name in names}
    return sealed(
        values
        | {
            "model": sidecar.model._asdict(),
            "environment": sidecar.environment._asdict(),
            "files": {name: mark._asdict() for name, mark in sidecar.files.items()},
        }
    )


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `sha256`, of them as JSON with sorted names and no spaces, last."""
    values = {name: value for name, value in values.items() if name != "sha256"}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return values | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


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
    "environment": dict,
    "log_sha256": str,
    "files": dict,
    "version": int,
    "sha256": str,
}


def read(path: Path) -> Sidecar:
    """The sidecar in a file: FileNotFoundError where there is none, ValueError if it is damaged."""
    return parse(read_text(path, LONGEST_BYTES))


def parse(text: str) -> Sidecar:
    """The sidecar that `text` writes, or ValueError saying what is wrong with it."""
    values = parse_json(text)
    if not isinstance(values, dict):
        raise ValueError("a JSON object is required")
    if (version := values.get("version")) != VERSION:
        raise ValueError(
            f"version {version!r:.40} found, {VERSION} is required: train again, or use the code "
            "that wrote it"
        )
    _require(values, _SCHEMA)
    if (required := sealed(values)["sha256"]) != values.pop("sha256"):
        raise ValueError(f"its values are not those that were saved: they hash to {required[:12]}")
    if values["kind"] not in typing.get_args(Kind):
        raise ValueError(f"kind is {values['kind']!r}, one of {typing.get_args(Kind)} is required")
    if tuple(values["items"]) not in (FULL, PARAMETERS_ONLY):
        raise ValueError(f"items is {values['items']}, {FULL} or {PARAMETERS_ONLY} is required")
    for name in ("tokenizer_sha256", "log_sha256"):
        if values[name] and not _SHA256.fullmatch(values[name]):
            raise ValueError(f"{name} is {values[name]!r:.80}, a SHA-256 is required")
    return Sidecar(
        **values
        | {
            "items": tuple(values["items"]),
            "metrics": _metrics(values["metrics"]),
            "model": ModelShape(**_record(values["model"], ModelShape)),
            "environment": Environment(**_record(values["environment"], Environment)),
            "files": _files(values["files"]),
        }
    )


def _metrics(values: dict[str, Any]) -> dict[str, float]:
    _require_few(values, "metrics", _MOST_METRICS)
    for name, value in values.items():
        if not isinstance(value, float) or not math.isfinite(value):
            raise ValueError(f"the metric {name} is {value!r:.80}, a finite number is required")
    return values


def _files(values: dict[str, Any]) -> dict[str, Mark]:
    _require_few(values, "files", MOST_FILES)
    marks = {}
    for name, value in values.items():
        if not _FILE.fullmatch(name):
            raise ValueError(f"files names {name!r:.80}, a path below its folder is required")
        if not isinstance(value, dict):
            raise ValueError(f"the file {name} is {value!r:.80}, a JSON object is required")
        marks[name] = mark = Mark(**_record(value, Mark))
        if not _SHA256.fullmatch(mark.sha256):
            raise ValueError(f"the sha256 of {name} is {mark.sha256!r:.80}, 64 digits are required")
    return marks


def _require_few(values: Mapping[str, Any], what: str, most: int) -> None:
    if len(values) > most or any(len(name) > _LONGEST_NAME for name in values):
        raise ValueError(
            f"{what} has {len(values)} entries, at most {most} are required, with names of at most "
            f"{_LONGEST_NAME} letters"
        )


def _record(values: dict[str, Any], kind: type) -> dict[str, Any]:
    _require(values, typing.get_type_hints(kind))
    return values


def _require(values: Mapping[str, Any], schema: Mapping[str, type]) -> None:
    """The names of `schema` and no other, with values of its types and within the ranges."""
    for name in sorted(values.keys() ^ schema.keys()):
        raise ValueError(f"{name:.80} is {'missing' if name in schema else 'not known'}")
    for name, kind in schema.items():
        value = values[name]
        if type(value) is not kind:
            raise ValueError(f"{name} is {value!r:.80}, {kind.__name__} is required")
        if isinstance(value, int) and not 0 <= value <= LARGEST:
            raise ValueError(f"{name} is {value:.3g}, at least 0 and at most 2**53 is required")
        if isinstance(value, str) and (len(value) > _LONGEST_TEXT or value.startswith("/")):
            raise ValueError(f"{name} is {value!r:.80}, a short text is required, and no path")
