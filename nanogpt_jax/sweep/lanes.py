"""Runs of one shape as lanes of one compiled program: `jax.vmap` of the usual step.

What differs between lanes is what a step takes as arguments: the seed and every number of the
optimizer and the schedule. Each lane is an ordinary run directory, with its own log and
checkpoints, and computes what it would compute alone: its state 0 is made by the function that
makes that of a run by itself, and its batches are its own, or shared where all lanes have one seed.

A lane that is not finite any more ends; the others do not notice. Lanes go on together from the
newest step that all of them have saved.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from nanogpt_jax import checkpoint
from nanogpt_jax.chronicle import Chronicle
from nanogpt_jax.config import flatten
from nanogpt_jax.data.pipeline import Batches
from nanogpt_jax.errors import ConfigError, Interrupted, Mismatch, NonFinite
from nanogpt_jax.experiment import Plan, Run, assemble, assemble_beside
from nanogpt_jax.interface import Batch
from nanogpt_jax.interrupt import Interrupt
from nanogpt_jax.start import announce, create, restore
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import Recipe, StepSums, train_step

# What lanes may have each their own, beside all numbers of the optimizer and the schedule.
OWN = ("seed", "optimizer.learning_rate", "optimizer.clip_norm", "init.scale")

Changes = Sequence[tuple[str, str]]


@dataclasses.dataclass
class Lane:
    """One run among others; `failed` says why it has ended before them."""

    run: Run
    workdir: Path
    chronicle: Chronicle
    feed: Batches
    failed: str | None = None

    @contextlib.contextmanager
    def ending_alone(self) -> Iterator[None]:
        """What is not finite in the block ends this lane and no other."""
        try:
            yield
        except NonFinite as error:
            self.failed = str(error)
            logging.warning("lane %s ends: %s", self.workdir.name, error)


class Told(NamedTuple):
    """An update that lanes are still to be told of: the state it made, its sums, its batches."""

    step: int
    sums: StepSums
    digests: Sequence[str]


def train_lanes(
    plans: Mapping[Path, Plan], changes: Mapping[Path, Changes] | None = None
) -> dict[Path, str | None]:
    """Trains the plan of every run directory; of each, why it failed, or None.

    `changes` is what makes each of them what it is, for the records. Raises ConfigError for plans
    that no one program can train, and Interrupted, every lane saved, after a signal.
    """
    require_one_program(list(plans.values()))
    with contextlib.ExitStack() as held:
        interrupt = held.enter_context(Interrupt())
        for workdir in plans:
            held.enter_context(checkpoint.lock_run(workdir))
        first = _common_step(list(plans))
        runs = _assemble(plans, changes or {}, first or 0)
        states = []
        for workdir, run in runs.items():
            states.append(create(run) if first is None else restore(run, workdir, first))
            run.record.save(workdir)
            run.tokenizer.save(workdir / "tokenizer.json")
        announce(next(iter(runs.values())), None)
        logging.info("%d lanes, from step %d", len(runs), first or 0)
        return _loop(runs, states, first, interrupt)


def require_one_program(plans: Sequence[Plan]) -> None:
    """Raises ConfigError with all that keeps `plans` from being lanes of one program."""
    first, *others = plans
    known = flatten(first.config)
    problems = {
        f"{name} is {known.get(name)!r} in one lane and {value!r} in another"
        for plan in others
        for name, value in flatten(plan.config).items()
        if known.get(name) != value and not _is_number_of_a_step(plan, name)
    }
    if first.parallel.exact or first.parallel.mode == "pmap":
        problems.add("parallel.exact and parallel.mode=pmap have one run in a program")
    if first.train.max_seconds:
        problems.add("train.max_seconds would end lanes wherever they stand: set train.steps")
    if problems:
        remedy = "lanes differ in seed, rates and other numbers alone; --launcher=local trains any"
        raise ConfigError([f"{problem}; {remedy}" for problem in sorted(problems)])


def compile_lanes(recipe: Recipe, *, shared: bool) -> Callable[[Any, Any, Any], Any]:
    """(states, batch, hypers) -> states and sums: one update of every lane of a leading axis.

    With `shared` all lanes read one batch, else each its own.
    """
    step = functools.partial(train_step, recipe)
    return jax.jit(jax.vmap(step, in_axes=(0, None if shared else 0, 0)), donate_argnums=0)


def _is_number_of_a_step(plan: Plan, name: str) -> bool:
    section, _, field = name.partition(".")
    if section == "optimizer" and field in plan.optimizer_fields:
        return isinstance(plan.optimizer_fields[field], float)
    return name in OWN or (section == "schedule" and field != "name")


def _common_step(workdirs: Sequence[Path]) -> int | None:
    """The newest step that all of them can go on from; None where none has begun."""
    saved = [
        {each.step for each in checkpoint.read_sidecars(workdir) if each.full}
        for workdir in workdirs
    ]
    if not any(saved):
        return None
    if common := set.intersection(*saved):
        return max(common)
    raise Mismatch(
        "the lanes have saved no step in common: remove the directories of those that ended "
        "early, or train each by itself (--launcher=local)"
    )


def _assemble(
    plans: Mapping[Path, Plan], changes: Mapping[Path, Changes], step: int
) -> dict[Path, Run]:
    """The runs of all lanes, which share the corpus and everything that is compiled."""
    (workdir, plan), *others = plans.items()
    leading = assemble(plan, workdir, changes.get(workdir, ()), (), step)
    runs = {workdir: leading}
    for workdir, plan in others:
        runs[workdir] = assemble_beside(leading, plan, workdir, changes.get(workdir, ()), step)
    return runs


def _loop(
    runs: Mapping[Path, Run], states: list[TrainState], first: int | None, interrupt: Interrupt
) -> dict[Path, str | None]:
    """Updates all lanes until their steps are done."""
    leading = next(iter(runs.values()))
    shared = len({run.plan.seed for run in runs.values()}) == 1
    update = compile_lanes(leading.recipe, shared=shared)
    state, hyper = stacked(states), stacked([run.hyper for run in runs.values()])
    states.clear()  # or their memory is held as long as the lanes train
    untold: Told | None = None
    with contextlib.ExitStack() as held:
        lanes = [
            _open(held, run, workdir, leading.batches if shared else run.batches, first)
            for workdir, run in runs.items()
        ]
        for step in itertools.count(first or 0):
            stopping = interrupt.requested
            last = stopping or step >= leading.plan.steps
            if due := lanes[0].chronicle.due(step, last=last, stopping=stopping):
                _tell(lanes, untold)
                untold = None
                for number, lane in _living(lanes):
                    with lane.ending_alone():
                        lane.chronicle.keep(
                            step,
                            due,
                            jax.tree.map(operator.itemgetter(number), state),
                            lane.feed.state(),
                            last=last,
                            interrupted=stopping,
                        )
            if last or not _living(lanes):
                break
            batch, digests = _next_batch(lanes, shared)
            state, sums = update(state, batch, hyper)
            interrupt.protect()
            _tell(lanes, untold)  # of the update before, while this one runs
            untold = Told(step + 1, sums, digests)
    if interrupt.requested:
        raise Interrupted(f"interrupted and saved at step {step}; the same command goes on there")
    return {lane.workdir: lane.failed for lane in lanes}


def _open(
    held: contextlib.ExitStack, run: Run, workdir: Path, feed: Batches, first: int | None
) -> Lane:
    restored = None if first is None else checkpoint.read_sidecar(workdir, first)
    held.enter_context(run.batches)
    chronicle = held.enter_context(Chronicle(run, workdir, restored, on_console=False))
    return Lane(run, workdir, chronicle, feed)


def _living(lanes: Sequence[Lane]) -> list[tuple[int, Lane]]:
    """The lanes that go on, with their places in the program."""
    return [(number, lane) for number, lane in enumerate(lanes) if lane.failed is None]


def _tell(lanes: Sequence[Lane], told: Told | None) -> None:
    """Hands every lane its part of what an update has summed, fetched once for all."""
    if told is None:
        return
    fetched = jax.device_get(told.sums)
    for number, lane in _living(lanes):
        with lane.ending_alone():
            own = jax.tree.map(operator.itemgetter(number), fetched)
            lane.chronicle.update(told.step, own, told.digests[number])


def _next_batch(lanes: Sequence[Lane], shared: bool) -> tuple[Batch, list[str]]:
    """What the lanes read next, and the digest of each one's batch."""
    if shared:
        batch = next(lanes[0].feed)
    else:
        batch = stacked([next(lane.feed) for lane in lanes])
    return batch, [lane.feed.sha256 for lane in lanes]


def stacked(trees: Sequence[Any]) -> Any:
    """Trees of one shape as one with a leading axis; of host arrays, host arrays."""

    def stack(*leaves: Any) -> Any:
        on_host = isinstance(leaves[0], np.generic | np.ndarray)
        return np.stack(leaves) if on_host else jnp.stack(leaves)

    return jax.tree.map(stack, *trees)
