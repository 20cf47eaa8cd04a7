"""What makes a run this run: its record, and the refusal to go on as another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nanogpt_jax import config, record
from nanogpt_jax.data.corpus import AnyCorpus
from nanogpt_jax.errors import ConfigError, Mismatch
from nanogpt_jax.experiment.plan import SCHEMA, Plan
from nanogpt_jax.interface import ModelShape
from nanogpt_jax.record import Record
from nanogpt_jax.registry import unknown
from nanogpt_jax.tokenization import Tokenizer

# What a run may do otherwise from one start to the next. All other settings are its meaning, those
# included that do not exist yet.
FREE_SECTIONS = ("eval.", "checkpoint.", "log.", "profile.")
FREE = (
    *("train.steps", "train.max_tokens", "train.max_seconds"),  # the schedule keeps its length
    *("train.on_nonfinite", "train.max_skipped", "train.hang_seconds"),
    *("train.attention", "model.remat"),
    *("parallel.mode", "parallel.data", "parallel.fsdp", "parallel.tensor"),
    *("data.prefetch", "data.on_bad_record", "data.max_bad_records"),
    # Names, of what is known by its content.
    *("data.source", "tokenizer.path", "tokenizer.source"),
)
CONTENTS = ("tokenizer", "corpus")
# Where one of these is on, the micro-shard that a row belongs to matters.
MINDING_SHARDS = ("model.dropout", "model.aux_weight", "parallel.exact")
# Every checkpoint of a run is of the model that its record names.
NEVER = ("model.name", *(f"model.{name}" for name in ModelShape._fields))
HASH_LENGTH = 64  # of SHA-256 in hexadecimal


class Difference(NamedTuple):
    """A setting, or a content, that the run has and that is asked for otherwise."""

    field: str
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.field} (run: {_short(self.theirs)}, asked: {_short(self.ours)})"


def describe_run(
    plan: Plan,
    tokenizer: Tokenizer,
    corpus: AnyCorpus,
    shape: ModelShape,
    parameters: int,
    compute_dtype: str,
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
            "opening": "",  # whoever opens the corpus knows it
        },
        model=shape._asdict(),
        parameters=parameters,
        compute_dtype=compute_dtype,
    )


def continue_run(
    made: Record, plan: Plan, workdir: Path, allowed: Collection[str] = (), step: int = 0
) -> Record:
    """`made`, as what goes on at `step` with the run that `workdir` holds, if it holds one.

    It has the schedule's length of that run, unless another is asked for; one that was started for
    0 steps takes the length of the start that first asks for some. Raises Mismatch when what the
    run means differs in anything but `allowed`, which the record then keeps; ConfigError when
    something is `allowed` that does not differ, nor has by an earlier start.
    """
    differences: list[Difference] = []
    changes: list[dict[str, Any]] = []
    if (workdir / record.NAME).exists():
        held = record.read(workdir)
        _keep_total_steps(made, held, plan)
        differences, changes = list(_differences(held, made)), held.changes
    _refuse_idle(allowed, {each.field for each in differences}, changes, made)
    refused = [each for each in differences if each.field not in allowed or each.field in NEVER]
    if refused:
        raise Mismatch(
            f"{workdir} holds another run: {'; '.join(map(str, refused))}; {_remedy(refused)}"
        )
    new = [
        {"step": step, "field": field, "from": theirs, "to": ours}
        for field, theirs, ours in differences
    ]
    return dataclasses.replace(made, changes=[*changes, *new])


def _keep_total_steps(made: Record, held: Record, plan: Plan) -> None:
    now, before = made.config["schedule"], held.config["schedule"]
    if not before["total_steps"]:  # still open: the run was started for 0 steps
        before["total_steps"] = now["total_steps"]
    elif not plan.schedule.total_steps:  # the length of the first start is kept
        now["total_steps"] = before["total_steps"]


def _differences(held: Record, made: Record) -> Iterator[Difference]:
    """What must not change in a run and has."""
    completed, _ = SCHEMA.complete(held.config)
    theirs, ours = config.flatten(completed), config.flatten(made.config)
    if held.compute_dtype:  # else the run is older than that, and what it wrote must do
        theirs["train.compute_dtype"] = held.compute_dtype
        ours["train.compute_dtype"] = made.compute_dtype
    # Another optimizer has other fields: its name tells.
    for field in (name for name in ours if name in theirs):
        if theirs[field] != ours[field] and not _is_free(field, ours):
            yield Difference(field, theirs[field], ours[field])
    for field in CONTENTS:
        before, now = (_content(run, field) for run in (held, made))
        if before != now:
            yield Difference(field, before, now)
    if (before := held.shape.vocab_size) != (now := made.shape.vocab_size):
        yield Difference("model.vocab_size", before, now)


def _content(run: Record, field: str) -> dict[str, Any]:
    """What a content is known by; a corpus' opening only quotes it, and older runs have none."""
    return {name: value for name, value in getattr(run, field).items() if name != "opening"}


def _is_free(field: str, values: Mapping[str, Any]) -> bool:
    if field == "train.accumulate_steps":
        return not any(values.get(name) for name in MINDING_SHARDS)
    return field in FREE or field.startswith(FREE_SECTIONS)


def _refuse_idle(
    allowed: Collection[str],
    differing: Collection[str],
    changes: Sequence[Mapping[str, Any]],
    made: Record,
) -> None:
    """Raises ConfigError for what is allowed in vain; the same command may be given again."""
    known = {*config.flatten(made.config), *CONTENTS}
    problems = []
    for field in allowed:
        if field not in known:
            problems.append(unknown("--allow_change", field, known))
        elif field not in {*differing, *(change["field"] for change in changes)}:
            problems.append(
                f"--allow_change={field}: nothing to allow, for it has not changed or may change "
                "in any run; leave it out"
            )
    if problems:
        raise ConfigError(problems)


def _remedy(refused: Sequence[Difference]) -> str:
    fields = [each.field for each in refused]
    if not set(fields).isdisjoint(NEVER):
        return "choose another --workdir, or start over with --fresh"
    return (
        "choose another --workdir, start over with --fresh, or go on with "
        f"--allow_change={','.join(fields)}"
    )


def _short(value: Any) -> Any:
    """A content on one line, its hashes by their start; anything else as it is."""
    if not isinstance(value, dict):
        return value
    texts = map(str, value.values())
    return " ".join(text[:12] if len(text) == HASH_LENGTH else text for text in texts)
