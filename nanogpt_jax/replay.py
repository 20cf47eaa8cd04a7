"""A step of a run executed once more, and what comes out beside what the log says came out then.

It goes the way of training: the same assembly, layout and compiled update, from the nearest
checkpoint before the step, or from state 0, which can be made again. Nothing is written into the
run. On one core all bits agree; on several XLA's CPU backend may round differently each time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nanogpt_jax import checkpoint, metrics, record, runtime, start, train
from nanogpt_jax.errors import NanogptError
from nanogpt_jax.experiment import Plan, Run, assemble, resolve
from nanogpt_jax.experiment.opening import recorded_config
from nanogpt_jax.metrics import chain, jsonl
from nanogpt_jax.metrics.history import History, history_of
from nanogpt_jax.record import Record
from nanogpt_jax.state import TrainState


class Fact(NamedTuple):
    """One thing that the log says of a step, and what the replay found."""

    step: int
    name: str
    recorded: str
    found: str

    @property
    def same(self) -> bool:
        """Whether every bit agrees."""
        return self.recorded == self.found


class Replay(NamedTuple):
    """All that could be compared on the way, in order; `first` is the state it began with."""

    first: int
    step: int
    facts: tuple[Fact, ...]

    @property
    def difference(self) -> Fact | None:
        """The first fact that is not the same."""
        return next((fact for fact in self.facts if not fact.same), None)

    def __str__(self) -> str:
        """The facts of the step that was asked for, as a table."""
        rows = [("", "recorded", "replayed", "")]
        for fact in self.facts:
            if fact.step == self.step:
                verdict = "same" if fact.same else "DIFFERENT"
                rows.append((fact.name, _short(fact.recorded), _short(fact.found), verdict))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([f"step {self.step}, replayed from state {self.first}", *lines])


def replay(directory: Path, step: int, source: str = "") -> Replay:
    """Executes the updates up to state `step` again and compares all that the log says of them.

    The state that it begins with is compared, too. `source` says where the corpus lies now. Raises
    NanogptError where no line of training ends with this step, errors.Damaged where the checkpoint
    is not whole, and what training raises where it could not go on here.
    """
    history = history_of(metrics.read_log(directory / jsonl.NAME).records)
    if step not in history.updates:
        nearest = sorted(history.updates, key=lambda known: (abs(known - step), known))[:2]
        known = f"the nearest are {' and '.join(map(str, sorted(nearest)))}" if nearest else "none"
        raise NanogptError(
            f"no line of {directory / jsonl.NAME} tells of training up to step {step}: {known}"
        )
    held = record.read(directory)
    first = _nearest(directory, history.updates[step].first - 1)
    _require_unchanged(held, first, step)
    plan = plan_of(held, directory, source)
    if plan.parallel.exact:
        runtime.pin_threads()
    if first:
        checkpoint.verify(directory, first)
    run = assemble(plan, directory, ())
    with run.batches:
        return Replay(first, step, tuple(_facts(run, directory, first, step, history)))


def plan_of(held: Record, directory: Path, source: str = "") -> Plan:
    """The plan of a run that exists, with its own tokenizer wherever it once came from."""
    settings = recorded_config(held, directory)
    changes = [("data.source", source)] if source else []
    if settings.tokenizer.path:
        changes.append(("tokenizer.path", str(directory / "tokenizer.json")))
    return resolve(settings, changes)


def _nearest(directory: Path, last: int) -> int:
    """The newest step, at most `last`, that training can go on from; 0 can always be made."""
    sidecars = checkpoint.read_sidecars(directory)
    return max((one.step for one in sidecars if one.full and one.step <= last), default=0)


def _require_unchanged(held: Record, first: int, step: int) -> None:
    """Raises NanogptError where the run has become another one after state `first`."""
    for change in held.changes:
        if change["step"] > first:
            raise NanogptError(
                f"{change['field']} was changed at step {change['step']} by --allow_change, and "
                f"step {step} can only be replayed from step {first}, before that: choose a step "
                "that follows the first checkpoint after the change"
            )


def _facts(run: Run, directory: Path, first: int, last: int, history: History) -> Iterator[Fact]:
    state = start.restore(run, directory, first) if first else start.create(run)
    update = train.compile_update(run)
    yield from _saved(run, first, state, history)
    digests: list[str] = []
    for step in range(first + 1, last + 1):
        batch = run.layout.place_batch(next(run.batches))
        digests.append(run.batches.sha256)
        state, sums = update(state, batch, run.hyper)
        if line := history.updates.get(step):
            loss = chain.bits_of(float(sums.loss.nats), float(sums.loss.tokens))
            if line.first > first:  # else it also tells of batches before the checkpoint
                batches = functools.reduce(chain.fold, digests[line.first - first - 1 :])
                yield Fact(step, "batch_sha256", line.batch_sha256, batches)
            yield Fact(step, "loss_hex", line.loss_hex, loss)
        yield from _saved(run, step, state, history)


def _saved(run: Run, step: int, state: TrainState, history: History) -> Iterator[Fact]:
    """The parameters of a state, where the log says what was saved then."""
    if recorded := history.params_sha256.get(step):
        found = checkpoint.digest_params(run.layout.plain(state).params)
        yield Fact(step, "params_sha256", recorded, found)


def _short(value: str) -> str:
    """A digest by its start; the bits of a loss whole, and as a number."""
    return f"{float.fromhex(value):.9g} ({value})" if "0x" in value else value[:16]
