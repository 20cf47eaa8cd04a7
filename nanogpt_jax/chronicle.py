"""What is measured, told and saved of one run while it trains: log, checkpoints, sample.

Whoever trains says when an update was made and hands over the state where something is due. One
run has one, and a run that is a lane among others has its own, too; nothing here updates a state or
knows how many are updated at once. Of several processes all measure, and the first writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from nanogpt_jax import checkpoint, distributed, metrics
from nanogpt_jax.checkpoint import Checkpoints, Kind, Sidecar
from nanogpt_jax.config import flatten
from nanogpt_jax.errors import Leak
from nanogpt_jax.experiment import Run
from nanogpt_jax.metrics import jsonl
from nanogpt_jax.report import Report
from nanogpt_jax.start import open_checkpoints
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import StepSums

# A loss so many standard errors below the entropy of the corpus is no luck.
LEAK_ERRORS = 4.0


class Due(NamedTuple):
    """What a state is wanted for: to be measured, to be saved as some kind of checkpoint."""

    evaluating: bool
    kind: Kind | None


class Chronicle:
    """The chronicle of `run` in `workdir`, which goes on after `restored`; a context manager.

    `sample` is the last text that the run has written. `spent` tells the share of a budget of
    seconds that is used up. `beat` is told of every part of the work that is done, so that no
    watchdog takes a long one for a stand-still.
    """

    def __init__(
        self,
        run: Run,
        workdir: Path,
        restored: Sidecar | None,
        *,
        spent: Callable[[], float] | None = None,
        beat: Callable[[int], None] = lambda step: None,
        on_console: bool = True,
    ):
        self.sample = ""
        self._run = run
        self._workdir = workdir
        self._restored = restored
        self._spent = spent
        self._beat = beat
        self._on_console = on_console
        self._writes = distributed.is_first()
        self._checkpoints: Checkpoints | None = None
        self._milestones = _milestones(run)
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> Self:
        first = self._restored.step if self._restored else 0
        with contextlib.ExitStack() as entering:
            self._writer = entering.enter_context(self._open_writers(first))
            if self._writes:
                checkpoints = open_checkpoints(self._run, self._workdir, self._milestones)
                self._checkpoints = entering.enter_context(checkpoints)
            self._writer.config(flatten(self._run.record.config))
            self._report = Report(self._writer, self._run)
            self._entered = entering.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.__exit__(*error)

    def due(self, step: int, *, last: bool, stopping: bool) -> Due | None:
        """What is due at state `step`, if anything; `last`: nothing comes after it."""
        plan = self._run.plan
        evaluating = _due(step, plan.eval.every_steps, last) and not stopping
        kind = _kind_of_save(step, plan.checkpoint.every_steps, last, self._milestones)
        if self._restored and step == self._restored.step:
            # Whoever wrote a state has saved it, and evaluated it but for a signal.
            evaluating, kind = evaluating and (last or self._restored.interrupted), None
        return Due(evaluating, kind) if evaluating or kind else None

    def keep(
        self,
        step: int,
        due: Due,
        plain: TrainState,
        position: Mapping[str, Any],
        *,
        last: bool,
        interrupted: bool,
    ) -> None:
        """Measures and saves the plain state `step`, with the `position` that yields batch `step`.

        Raises NonFinite where it is not finite, Leak where it is better than any model can be.
        """
        (self._report.close if last else self._report.flush)()  # no update unread
        values: dict[str, float] = {}
        if due.evaluating:
            values = self._measure(step, plain, last)
        if due.kind:
            self._save(step, due.kind, plain, position, values, interrupted)
        refuse_leak(values)

    def update(self, step: int, sums: StepSums, batch_sha256: str) -> None:
        """Takes the sums of the update that made state `step`; those before are told meanwhile."""
        self._report(step, sums, batch_sha256)
        if self._checkpoints is not None:
            self._checkpoints.check()

    def flush(self) -> None:
        """Reads what is pending; the time from here to the next update does not count."""
        self._report.flush()

    def _measure(self, step: int, plain: TrainState, last: bool) -> dict[str, float]:
        values = self._run.evaluator.measure(plain.params)
        self._beat(step)
        self._writer.scalars(step, values)
        # What an untrained model writes is not worth the wait.
        if step or last or self._run.plan.init.from_:
            params = self._run.layout.whole(plain.params)
            if not self._writes:
                return values
            more, self.sample = self._run.evaluator.sample(params)
            if more:
                self._writer.scalars(step, more)
            self._writer.text(step, "sample", self.sample)
            values |= more
        return values

    def _save(
        self,
        step: int,
        kind: Kind,
        plain: TrainState,
        position: Mapping[str, Any],
        values: Mapping[str, float],
        interrupted: bool,
    ) -> None:
        state = self._run.layout.whole(plain)
        if self._checkpoints is None:
            return
        # Before the state itself: its checkpoint then names this line, and all before.
        digest = checkpoint.digest_params(state.params)
        self._writer.event(step, "save", {"params_sha256": digest})
        with self._report.naming_batch():
            self._checkpoints.save(
                step,
                state,
                position,
                kind=kind,
                tokens_seen=step * self._run.plan.tokens_per_step,
                metrics=values,
                interrupted=interrupted,
                log_sha256=metrics.read_head(self._workdir / jsonl.NAME),
            )
        self._beat(step)

    def _open_writers(self, first: int) -> metrics.Writers:
        if not self._writes:
            return metrics.Writers()
        plan = self._run.plan
        timed = plan.train.max_seconds > 0
        return metrics.open_writers(
            self._workdir,
            start_step=first,
            total_steps=None if timed else plan.steps,
            tracker=plan.log.tracker,
            fraction=self._spent if timed else None,
            console=self._on_console,
        )


def _due(step: int, every: int, last: bool) -> bool:
    return last or (every > 0 and step % every == 0)


def _kind_of_save(step: int, every: int, last: bool, milestones: Collection[int]) -> Kind | None:
    """What is saved at `step`, if anything; state 0 can be made again, so it is rarely full."""
    if last:
        return "final"
    if step and _due(step, every, last):
        return "periodic"
    return "milestone" if step in milestones else None


def _milestones(run: Run) -> tuple[int, ...]:
    total_steps = int(run.hyper["schedule"]["total_steps"])
    return checkpoint.milestone_steps(total_steps, run.plan.checkpoint.milestones)


def refuse_leak(values: Mapping[str, float]) -> None:
    """Raises Leak when a loss lies below what any honest model can reach."""
    excess, error = values.get("val/excess_nats", 0.0), values.get("val/excess_nats_se", 0.0)
    if excess < -LEAK_ERRORS * error < 0:  # of one story the error is not known
        raise Leak(
            f"the held-out loss is {-excess:.4f} nats per character below the entropy of the "
            f"corpus (standard error {error:.4f}): the model sees what it should predict; check "
            "masks, targets and the split"
        )
