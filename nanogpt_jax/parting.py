"""Where two runs part: the first step of which their logs do not say the same, and what differs.

Logs and records are read, nothing is computed again; replay.py says which of the two is right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, Literal

from nanogpt_jax import config, metrics, record
from nanogpt_jax.errors import NanogptError
from nanogpt_jax.experiment.identity import FREE, FREE_SECTIONS
from nanogpt_jax.metrics import jsonl
from nanogpt_jax.metrics.history import History, history_of

Cause = Literal["config", "data", "numerics"]


@dataclasses.dataclass(frozen=True)
class Parting:
    """How far two runs are equal, and the first difference after that, if there is one."""

    equal_until: int  # the last step of which both say the same, 0 if of none
    step: int | None  # the first of which they do not
    what: str  # the two values there
    cause: Cause | None
    fields: tuple[str, ...]  # of run.json that differ, with both values

    def __str__(self) -> str:
        fields = "".join(f"\n  {field}" for field in self.fields)
        told = f"\nrun.json differs in{fields}" if fields else "\nrun.json is the same"
        if self.step is None:
            return f"equal up to step {self.equal_until}, the last that both have{told}"
        at = f"equal up to step {self.equal_until}; part at step {self.step}"
        return f"{at} ({self.cause}): {self.what}{told}"


def find_parting(one: Path, other: Path) -> Parting:
    """Compares two runs step by step; NanogptError where they have no step in common.

    The cause is `config` where fields differ that are the meaning of a run, else `data` where the
    batches differ, else `numerics`: equal batches gave another loss, or other parameters.
    """
    histories = [history_of(metrics.read_log(each / jsonl.NAME).records) for each in (one, other)]
    differences = dict(_differences(one, other))
    fields = tuple(differences.values())
    known = config.flatten(record.read(one).config)
    meant = any(_is_meant(field, known) for field in differences)
    equal_until = 0
    for step in _common_steps(*histories):
        for cause, what, found in _facts(step, *histories):
            if len(set(found)) > 1:
                what = f"{what} {found[0]}, and {found[1]}"
                return Parting(equal_until, step, what, "config" if meant else cause, fields)
        equal_until = step
    return Parting(equal_until, None, "", None, fields)


def _common_steps(one: History, other: History) -> list[int]:
    updates = one.updates.keys() & other.updates.keys()
    saves = one.params_sha256.keys() & other.params_sha256.keys()
    if not (updates | saves):
        raise NanogptError(
            "the two logs have no step in common: two runs with equal log.every_steps are required"
        )
    return sorted(updates | saves)


def _facts(step: int, one: History, other: History) -> Iterator[tuple[Cause, str, tuple[str, str]]]:
    """What both say of a step, what is computed from what after it."""
    if step in one.updates and step in other.updates:
        ours, theirs = one.updates[step], other.updates[step]
        if ours.first == theirs.first:  # else these are hashes of different batches
            which = "the batch:" if ours.first == step else f"a batch from {ours.first} to {step}:"
            yield "data", which, (ours.batch_sha256[:12], theirs.batch_sha256[:12])
        losses = (f"{each.loss_nats} ({each.loss_hex})" for each in (ours, theirs))
        yield "numerics", "the loss:", (next(losses), next(losses))
    if step in one.params_sha256 and step in other.params_sha256:
        digests = one.params_sha256[step][:12], other.params_sha256[step][:12]
        yield "numerics", "the parameters:", digests


def _differences(one: Path, other: Path) -> Iterator[tuple[str, str]]:
    """What differs in run.json: the field, and it with both values."""
    ours, theirs = (_flat(record.read(each)) for each in (one, other))
    for name in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(name, "nothing"), theirs.get(name, "nothing")
        if here != there:
            yield name, f"{name}: {here}, and {there}"


def _flat(held: record.Record) -> dict[str, Any]:
    """What may decide the numbers of a run: its config by address, and what it was made of."""
    return {
        **config.flatten(held.config),
        **{f"{name} version": version for name, version in held.versions.items()},
        "corpus": held.corpus["fingerprint"][:12],
        "tokenizer": held.tokenizer["sha256"][:12],
        "compute dtype": held.compute_dtype,
        "changes": held.changes,
        "code": held.git_commit,
    }


def _is_meant(field: str, config_fields: Container[str]) -> bool:
    """Whether a field is of the config, and none that may change in a run."""
    free = field in FREE or field.startswith(FREE_SECTIONS)
    return field in config_fields and not free
