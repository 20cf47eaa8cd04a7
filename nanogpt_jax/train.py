"""The loop: update, evaluate, save, report; ends when the budget is spent or a signal asks for it.

Everything it drives is handed over; it knows no file format, no flag and no model. State N is the
state after N updates, and the run never steps past its last save.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from nanogpt_jax import checkpoint, distributed, metrics
from nanogpt_jax.checkpoint import Sidecar
from nanogpt_jax.chronicle import Chronicle
from nanogpt_jax.errors import ConfigError, Interrupted, NonFinite
from nanogpt_jax.experiment import Plan, Run, assemble
from nanogpt_jax.interrupt import Interrupt
from nanogpt_jax.parallel import Step
from nanogpt_jax.profiling import Trace
from nanogpt_jax.runtime import describe_devices, describe_programs, pin_threads
from nanogpt_jax.start import (
    GO_ON,
    Start,
    announce,
    clear,
    create,
    newest,
    restore,
)
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import observe_step, train_step
from nanogpt_jax.watchdog import Watchdog


def train(
    plan: Plan, workdir: Path, overrides: Sequence[tuple[str, str]] = (), start: Start = GO_ON
) -> str:
    """Trains `plan` in `workdir`, from its last full checkpoint if it has one.

    Returns a sample of the trained model. `overrides` is what was typed, for the record. Raises
    Interrupted once a signal has ended the run and its last finished step is saved.
    """
    _require_one_clock(plan)
    with distributed.make_interrupt() as interrupt, _holding(workdir):
        if start.fresh and distributed.is_first():
            clear(workdir)
        if plan.parallel.exact:
            pin_threads()
        with _log_of(workdir):
            restored = newest(workdir, start.require_checkpoint)
            logging.info("%s", describe_devices())
            logging.info("%s", describe_programs())
            step = restored.step if restored else 0
            run = assemble(plan, workdir, overrides, start.allow_change, step)
            state = restore(run, workdir, restored.step) if restored else create(run)
            distributed.meet()  # until then the directory is as all have found it
            if distributed.is_first() and (restored is None or restored.step < plan.steps):
                run.record.save(workdir)
                run.tokenizer.save(workdir / "tokenizer.json")
            announce(run, restored)
            with _naming_newest(workdir):
                return _loop(run, workdir, interrupt, restored, state)


def _loop(
    run: Run, workdir: Path, interrupt: Interrupt, restored: Sidecar | None, state: TrainState
) -> str:
    """Updates `state` until the budget is spent, and returns a sample of the last."""
    plan, first = run.plan, restored.step if restored else 0
    budget = Budget(plan.steps, plan.train.max_seconds, first)
    update = compile_update(run)
    observe = run.layout.compile_step(observe_step, run.recipe._replace(observe=True))
    looking = plan.log.layers_every_steps
    with (
        Watchdog(plan.train.hang_seconds, workdir / "train.log") as watchdog,
        run.batches as batches,
        Chronicle(run, workdir, restored, spent=budget.spent, beat=watchdog.beat) as chronicle,
        Trace(plan.profile, workdir / "profile") as trace,
    ):
        for step in trace.over(itertools.count(first), chronicle.flush):
            watchdog.beat(step)
            stopping = interrupt.asks(step)  # once: a signal between two reads would be lost
            last = stopping or budget.spent(step) >= 1
            if due := chronicle.due(step, last=last, stopping=stopping):
                plain = run.layout.plain(state)
                chronicle.keep(step, due, plain, batches.state(), last=last, interrupted=stopping)
            if last:
                break
            batch, layers = run.layout.place_batch(next(batches)), None
            if looking and (step + 1) % looking == 0:
                chronicle.flush()  # nor is compiling it a time of a step
                state, layers = observe(state, batch, run.hyper)
            state, sums = update(state, batch, run.hyper)
            interrupt.protect()
            # Reads the update before while this one runs.
            chronicle.update(step + 1, sums._replace(layers=layers), batches.sha256)
    if interrupt.requested:  # also while the last state was measured and saved
        raise Interrupted(f"interrupted and saved at step {step}; the same command goes on there")
    return chronicle.sample


def _require_one_clock(plan: Plan) -> None:
    if plan.train.max_seconds and distributed.count() > 1:
        raise ConfigError(
            f"train.max_seconds={plan.train.max_seconds:g} with {distributed.count()} processes: "
            "their clocks differ, and all must end at one step; train.max_seconds=0 is required, "
            "with train.steps as the budget"
        )


def _holding(workdir: Path) -> contextlib.AbstractContextManager[None]:
    """The run directory for this run alone: of several processes the first has it for all."""
    return checkpoint.lock_run(workdir) if distributed.is_first() else contextlib.nullcontext()


def _log_of(workdir: Path) -> contextlib.AbstractContextManager[None]:
    if distributed.is_first():
        return metrics.log_to_file(workdir / "train.log")
    return contextlib.nullcontext()


@contextlib.contextmanager
def _naming_newest(workdir: Path) -> Iterator[None]:
    """Adds to an error about a state the checkpoint that comes before it."""
    try:
        yield
    except NonFinite as error:
        step = checkpoint.newest_full_step(workdir)
        found = "there is no checkpoint" if step is None else f"the newest checkpoint is {step}"
        raise NonFinite(f"{error}; {found}") from error


def compile_update(run: Run) -> Step:
    """(state, batch, hyper) -> state and sums: one update of `run`, on its devices."""
    return run.layout.compile_step(train_step, run.recipe)


class Budget:
    """How much of the steps, and of the seconds from now on, is used up; 0 seconds: no limit."""

    def __init__(self, steps: int, seconds: float, step: int):
        self._steps = steps
        self._seconds = seconds
        self._step = step
        self._began = time.monotonic()

    def spent(self, step: int | None = None) -> float:
        """The share of the budget that is used up at `step`, or at the step last asked about."""
        self._step = self._step if step is None else step
        by_steps = self._step / self._steps if self._steps else 1.0
        if not self._seconds:
            return by_steps
        return max(by_steps, (time.monotonic() - self._began) / self._seconds)
