"""What makes a run this run: its record, and the refusal to go on as another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nanogpt_jax import config, record, tokenization
from nanogpt_jax.data.corpus import AnyCorpus
from nanogpt_jax.errors import Mismatch
from nanogpt_jax.experiment.plan import SCHEMA, Plan
from nanogpt_jax.interface import ModelShape
from nanogpt_jax.record import Record
from nanogpt_jax.registry import fields_of
from nanogpt_jax.tokenization import Tokenizer

# Settings that decide what a checkpoint means, beside those of the model.
FIXED = (
    *(f"tokenizer.{name}" for name in ("kind", "vocab_size", *fields_of(tokenization.Options))),
    "data.val_fraction",
    "data.format",
    "data.bos",
    "data.loss_on",
)
HASH_LENGTH = 64  # of SHA-256 in hexadecimal


def describe_run(
    plan: Plan,
    tokenizer: Tokenizer,
    corpus: AnyCorpus,
    shape: ModelShape,
    parameters: int,
    overrides: Sequence[tuple[str, str]],
) -> Record:
    """The record of a run that starts now, its schedule as long as its budget."""
    values = config.to_dict(plan.config)
    values["schedule"]["total_steps"] = plan.total_steps
    return Record(
        config=record.without_folders(values),
        overrides=record.without_folders([f"{name}={text}" for name, text in overrides]),
        git_commit=record.git_commit(),
        versions=record.versions(),
        tokenizer={
            "kind": tokenizer.kind,
            "sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
        },
        corpus={
            "source": corpus.identity,
            "fingerprint": corpus.fingerprint,
            "running": corpus.running,
        },
        model=shape._asdict(),
        parameters=parameters,
    )


def continue_run(made: Record, plan: Plan, workdir: Path) -> Record:
    """`made`, with the schedule's length of the run that `workdir` holds, if it holds one.

    A run that was started for 0 steps takes the length of the start that first asks for some.
    Raises Mismatch when that run has another model, tokenizer or corpus.
    """
    if not (workdir / record.NAME).exists():
        return made
    held = record.read(workdir)
    now, before = made.config["schedule"], held.config["schedule"]
    if not before["total_steps"]:  # still open: the run was started for 0 steps
        before["total_steps"] = now["total_steps"]
    elif not plan.schedule.total_steps:  # the length of the first start is kept
        now["total_steps"] = before["total_steps"]
    differing = [
        f"{name} (run: {theirs}, asked: {ours})" for name, theirs, ours in _differences(held, made)
    ]
    if differing:
        raise Mismatch(
            f"{workdir} holds another run: {'; '.join(differing)}; "
            "choose another --workdir, or start over with --fresh"
        )
    return made


def _differences(held: Record, made: Record) -> Iterator[tuple[str, Any, Any]]:
    """What must not change in a run and has, as (name, the run's, the one asked for)."""
    completed, _ = SCHEMA.complete(held.config)
    theirs, ours = config.flatten(completed), config.flatten(made.config)
    fixed = [name for name in ours if name.startswith("model.")]
    for name in (*fixed, *FIXED, "schedule.total_steps"):
        if theirs.get(name) != ours[name]:
            yield name, theirs.get(name), ours[name]
    for name in ("tokenizer", "corpus"):
        if getattr(held, name) != getattr(made, name):
            yield name, _short(getattr(held, name)), _short(getattr(made, name))


def _short(values: dict[str, Any]) -> str:
    """The values on one line, hashes by their start."""
    texts = map(str, values.values())
    return " ".join(text[:12] if len(text) == HASH_LENGTH else text for text in texts)
