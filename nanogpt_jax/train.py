"""The loop: update, evaluate, save, report; ends when the budget is spent or a signal asks for it.

Everything it drives is handed over; it knows no file, no flag and no model. State N is the state
after N updates, and the run never steps past its last save.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import jax
from absl import logging

from nanogpt_jax import checkpoint, metrics
from nanogpt_jax.checkpoint import Checkpoints, Kind
from nanogpt_jax.config import flatten
from nanogpt_jax.errors import Interrupted, Leak, Mismatch
from nanogpt_jax.experiment import Plan, Run, assemble, load
from nanogpt_jax.interrupt import Interrupt
from nanogpt_jax.report import Report
from nanogpt_jax.runtime import describe_devices
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import train_step

# A loss so many standard errors below the entropy of the corpus is no luck.
LEAK_ERRORS = 4.0


def train(
    plan: Plan,
    workdir: Path,
    *,
    overrides: list[str],
    fresh: bool = False,
    require_checkpoint: bool = False,
) -> str:
    """Trains `plan` in `workdir`, from its last full checkpoint if it has one.

    Returns a sample of the trained model. `fresh` removes what the directory holds of a run
    before; `require_checkpoint` refuses to start from nothing. Raises Interrupted once a signal
    has ended the run and its last finished step is saved.
    """
    with Interrupt() as interrupt, checkpoint.lock_run(workdir):
        if fresh:
            _clear(workdir)
        if require_checkpoint:
            checkpoint.choose(workdir, "last", full=True)
        with metrics.log_to_file(workdir / "train.log"):
            logging.info("%s", describe_devices())
            run = assemble(plan, workdir, overrides)
            start, state = _start(run, workdir)
            run.record.save(workdir)
            run.tokenizer.save(workdir / "tokenizer.json")
            _announce(run, start or 0)
            return _loop(run, workdir, interrupt, start, state)


def _clear(workdir: Path) -> None:
    """Removes what a run before has written, and nothing else."""
    for name in ("checkpoints", "tensorboard"):
        shutil.rmtree(workdir / name, ignore_errors=True)
    for name in ("run.json", "tokenizer.json", "metrics.jsonl"):
        (workdir / name).unlink(missing_ok=True)


def _loop(
    run: Run, workdir: Path, interrupt: Interrupt, restored: int | None, state: TrainState
) -> str:
    """Updates `state` until the budget is spent; `restored` is the step it was read from."""
    plan, start = run.plan, restored or 0
    clock = Budget(plan, start)
    milestones = _milestones(run)
    writers = metrics.open_writers(
        workdir,
        start_step=start,
        total_steps=None if plan.train.max_seconds else plan.steps,
        tracker=plan.log.tracker,
        fraction=clock.spent if plan.train.max_seconds else None,
    )
    text = ""
    with writers as writer, _open_checkpoints(run, workdir, milestones) as checkpoints:
        writer.config(flatten(plan.config))
        report = Report(writer, run)
        update = run.layout.compile_step(functools.partial(train_step, run.recipe))
        for step in itertools.count(start):
            stopping = interrupt.requested  # read once: a signal between two reads would be lost
            last = stopping or clock.spent(step) >= 1
            evaluating = _due(step, plan.eval.every_steps, last) and not stopping
            kind = _kind_of_save(step, plan.checkpoint.every_steps, last, milestones)
            if step == restored:  # the run that wrote a state has evaluated and saved it
                evaluating, kind = last and not stopping, None
            if evaluating or kind:
                report.flush()  # no update unread
                plain, values = run.layout.plain(state), {}
                if evaluating:
                    values, text = run.evaluator(plain.params)
                    writer.scalars(step, values)
                    writer.text(step, "sample", text)
                if kind:
                    checkpoints.save(
                        step,
                        plain,
                        run.batches.state(),
                        kind=kind,
                        tokens_seen=step * plan.tokens_per_step,
                        metrics=values,
                        interrupted=stopping,
                    )
                refuse_leak(values)
            if last:
                break
            state, sums = update(state, run.layout.place_batch(next(run.batches)), run.hyper)
            report(step + 1, sums)  # reads the update before while this one runs
            checkpoints.check()
    if stopping:
        raise Interrupted(f"interrupted and saved at step {step}; the same command goes on there")
    return text


class Budget:
    """How much of `train.steps`, `train.max_tokens` and `train.max_seconds` is used up."""

    def __init__(self, plan: Plan, step: int):
        self._steps = plan.steps
        self._seconds = plan.train.max_seconds
        self._began = time.monotonic()
        self._step = step

    def spent(self, step: int | None = None) -> float:
        """The share of the budget that is used up at `step`, or at the step last asked about."""
        self._step = self._step if step is None else step
        by_steps = self._step / self._steps if self._steps else 1.0
        if not self._seconds:
            return by_steps
        return max(by_steps, (time.monotonic() - self._began) / self._seconds)


def _due(step: int, every: int, last: bool) -> bool:
    return last or (every > 0 and step % every == 0)


def _kind_of_save(step: int, every: int, last: bool, milestones: Collection[int]) -> Kind | None:
    """What is saved at `step`, if anything; state 0 can be made again, so it is never full."""
    if last:
        return "final"
    if step and _due(step, every, last):
        return "periodic"
    return "milestone" if step in milestones else None


def _milestones(run: Run) -> tuple[int, ...]:
    total_steps = int(run.hyper["schedule"]["total_steps"])
    return checkpoint.milestone_steps(total_steps, run.plan.checkpoint.milestones)


def _open_checkpoints(run: Run, workdir: Path, milestones: Collection[int]) -> Checkpoints:
    return Checkpoints(
        workdir,
        keep=run.plan.checkpoint.keep,
        milestone_steps=milestones,
        model=run.shape,
        tokenizer_sha256=run.tokenizer.sha256,
    )


def _start(run: Run, workdir: Path) -> tuple[int | None, TrainState]:
    """The step that was restored, if one was, and the state to go on from."""
    held = [one.step for one in checkpoint.read_sidecars(workdir) if one.full]
    if not held:
        state = run.layout.create(run.create, run.hyper, run.key)
        return None, _with_given_params(run, state) if run.plan.init.from_ else state
    with _open_checkpoints(run, workdir, ()) as checkpoints:
        abstract = run.layout.abstract(run.create, run.hyper, run.key)
        state, position = checkpoints.restore(held[-1], abstract)
    run.batches.restore(position)
    logging.info("resuming from step %d", held[-1])
    return held[-1], run.layout.place(state)


def _with_given_params(run: Run, state: TrainState) -> TrainState:
    """`state` with the parameters of the run that `init.from` names."""
    source = load(Path(run.plan.init.from_).expanduser().resolve())
    if (source.shape, source.tokenizer.sha256) != (run.shape, run.tokenizer.sha256):
        raise Mismatch(
            f"init.from={run.plan.init.from_}: that run has another model or tokenizer "
            f"({source.shape}); found here: {run.shape}; set tokenizer.path to its tokenizer.json"
        )
    plain = run.layout.plain(state)
    placed = jax.tree.map(
        lambda new, old: jax.device_put(new, old.sharding), source.params, plain.params
    )
    return run.layout.place(plain._replace(params=placed))


def _announce(run: Run, start: int) -> None:
    plan = run.plan
    logging.info(
        "%s: %s parameters; %d %s tokens in the vocabulary, %s in the training part; "
        "%s a step; steps %d to %d",
        run.shape.name,
        f"{run.record.parameters:,}",
        run.tokenizer.vocab_size,
        run.tokenizer.kind,
        f"{len(run.store.train.ids):,}",
        f"{plan.tokens_per_step:,}",
        start,
        plan.steps,
    )


def refuse_leak(values: Mapping[str, float]) -> None:
    """Raises Leak when a loss lies below what any honest model can reach."""
    excess, error = values.get("val/excess_nats", 0.0), values.get("val/excess_nats_se", 0.0)
    if excess < -LEAK_ERRORS * error:
        raise Leak(
            f"the held-out loss is {-excess:.4f} nats per character below the entropy of the "
            f"corpus (standard error {error:.4f}): the model sees what it should predict; check "
            "masks, targets and the split"
        )
