"""The loop: update, evaluate, save, report; ends when the budget is spent or a signal asks for it.

Everything it drives is handed over; it knows no file format, no flag and no model. State N is the
state after N updates, and the run never steps past its last save.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from absl import logging

from nanogpt_jax import checkpoint, metrics, record
from nanogpt_jax.checkpoint import Checkpoints, Kind, Sidecar
from nanogpt_jax.config import flatten
from nanogpt_jax.data.parts import Kept
from nanogpt_jax.errors import Interrupted, Leak, Mismatch
from nanogpt_jax.experiment import Plan, Run, assemble
from nanogpt_jax.interrupt import Interrupt
from nanogpt_jax.profiling import Trace
from nanogpt_jax.report import Report
from nanogpt_jax.runtime import describe_devices, describe_programs
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import observe_step, train_step

# A loss so many standard errors below the entropy of the corpus is no luck.
LEAK_ERRORS = 4.0


@dataclasses.dataclass(frozen=True)
class Start:
    """What becomes of a run that the directory already holds; by default it goes on.

    `fresh` removes it first; `require_checkpoint` refuses to start from nothing.
    """

    fresh: bool = False
    require_checkpoint: bool = False


GO_ON = Start()


def train(
    plan: Plan, workdir: Path, overrides: Sequence[tuple[str, str]] = (), start: Start = GO_ON
) -> str:
    """Trains `plan` in `workdir`, from its last full checkpoint if it has one.

    Returns a sample of the trained model. `overrides` is what was typed, for the record. Raises
    Interrupted once a signal has ended the run and its last finished step is saved.
    """
    with Interrupt() as interrupt, checkpoint.lock_run(workdir):
        if start.fresh:
            _clear(workdir)
        restored = _newest(workdir, start.require_checkpoint)
        with metrics.log_to_file(workdir / "train.log"):
            logging.info("%s", describe_devices())
            logging.info("%s", describe_programs())
            run = assemble(plan, workdir, overrides)
            state = _restore(run, workdir, restored) if restored else _create(run)
            if restored is None or restored.step < plan.steps:
                run.record.save(workdir)
                run.tokenizer.save(workdir / "tokenizer.json")
            _announce(run, restored)
            return _loop(run, workdir, interrupt, restored, state)


def _loop(
    run: Run, workdir: Path, interrupt: Interrupt, restored: Sidecar | None, state: TrainState
) -> str:
    """Updates `state` until the budget is spent, and returns a sample of the last."""
    plan, first = run.plan, restored.step if restored else 0
    budget = Budget(plan.steps, plan.train.max_seconds, first)
    milestones = _milestones(run)
    update = run.layout.compile_step(functools.partial(train_step, run.recipe))
    observe = run.layout.compile_step(functools.partial(observe_step, run.recipe))
    looking = plan.log.layers_every_steps
    sample = ""
    with (
        run.batches as batches,
        _open_writers(run, workdir, first, budget) as writer,
        _open_checkpoints(run, workdir, milestones) as checkpoints,
        Trace(plan.profile, workdir / "profile") as trace,
    ):
        writer.config(flatten(run.record.config))
        report = Report(writer, run)
        for step in trace.over(itertools.count(first), report.flush):
            stopping = interrupt.requested  # read once: a signal between two reads would be lost
            last = stopping or budget.spent(step) >= 1
            evaluating = _due(step, plan.eval.every_steps, last) and not stopping
            kind = _kind_of_save(step, plan.checkpoint.every_steps, last, milestones)
            if restored and step == restored.step:
                # Whoever wrote a state has saved it, and evaluated it but for a signal.
                evaluating, kind = evaluating and (last or restored.interrupted), None
            if evaluating or kind:
                report.flush()  # no update unread
                plain, values = run.layout.plain(state), {}
                if evaluating:
                    values = run.evaluator.measure(plain.params)
                    writer.scalars(step, values)
                    # What an untrained model writes is not worth the wait.
                    if step or last or plan.init.from_:
                        more, sample = run.evaluator.sample(plain.params)
                        if more:
                            writer.scalars(step, more)
                        writer.text(step, "sample", sample)
                        values |= more
                if kind:
                    checkpoints.save(
                        step,
                        plain,
                        batches.state(),
                        kind=kind,
                        tokens_seen=step * plan.tokens_per_step,
                        metrics=values,
                        interrupted=stopping,
                    )
                refuse_leak(values)
            if last:
                report.close()
                break
            batch, layers = run.layout.place_batch(next(batches)), None
            if looking and (step + 1) % looking == 0:
                report.flush()  # nor is compiling it a time of a step
                state, layers = observe(state, batch, run.hyper)
            state, sums = update(state, batch, run.hyper)
            # Reads the update before while this one runs.
            report(step + 1, sums._replace(layers=layers))
            checkpoints.check()
    if stopping:
        raise Interrupted(f"interrupted and saved at step {step}; the same command goes on there")
    return sample


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


def _open_writers(run: Run, workdir: Path, first: int, budget: Budget) -> metrics.Writers:
    timed = run.plan.train.max_seconds > 0
    return metrics.open_writers(
        workdir,
        start_step=first,
        total_steps=None if timed else run.plan.steps,
        tracker=run.plan.log.tracker,
        fraction=budget.spent if timed else None,
    )


def _open_checkpoints(run: Run, workdir: Path, milestones: Collection[int]) -> Checkpoints:
    return Checkpoints(
        workdir,
        keep=run.plan.checkpoint.keep,
        milestone_steps=milestones,
        model=run.shape,
        tokenizer_sha256=run.tokenizer.sha256,
    )


def _clear(workdir: Path) -> None:
    """Removes what a run before has written, and nothing else."""
    names = ("checkpoints", "tensorboard", "profile", "tracker_id", "metrics.jsonl", "train.log")
    for name in (*names, "tokenizer.json", "run.json"):
        path = workdir / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _newest(workdir: Path, required: bool) -> Sidecar | None:
    """The checkpoint to go on from, if there is one; NoCheckpoint when one is `required`."""
    if required:
        checkpoint.choose(workdir, "last", full=True)
    step = checkpoint.newest_full_step(workdir)
    if step is None:
        return None
    record.read(workdir)  # without the record of its run, a checkpoint could be of any
    return checkpoint.read_sidecar(workdir, step)


def _restore(run: Run, workdir: Path, restored: Sidecar) -> TrainState:
    """The state that was saved, with the batches where it left them."""
    with _open_checkpoints(run, workdir, ()) as checkpoints:
        abstract = run.layout.abstract(run.create, run.hyper, run.key)
        state, position = checkpoints.restore(restored.step, abstract)
    run.batches.restore(position)
    return run.layout.place(state)


def _create(run: Run) -> TrainState:
    """State 0; its parameters are those of the run or model that `init.from` names, if any."""
    state = run.layout.create(run.create, run.hyper, run.key)
    if pretrained := run.open_pretrained():
        if pretrained.tokenizer.sha256 != run.tokenizer.sha256:
            raise Mismatch(
                f"init.from={pretrained.address}: that model has another tokenizer; leave "
                "tokenizer.path empty, and the run has it too"
            )
        params = pretrained.params(run.recipe.model)
        return run.layout.place(run.layout.plain(state)._replace(params=params))
    if (start := run.plan.init.run()) is None:
        return state
    source, which = start
    if (found := record.read(source).tokenizer["sha256"]) != run.tokenizer.sha256:
        raise Mismatch(
            f"init.from={run.plan.init.from_}: that run has another tokenizer ({found[:12]}, here "
            f"{run.tokenizer.sha256[:12]}); set tokenizer.path to its tokenizer.json"
        )
    abstract = run.layout.abstract(run.create, run.hyper, run.key)
    with_optimizer = run.plan.init.optimizer
    step = checkpoint.choose(source, which, full=with_optimizer)
    plain = run.layout.plain(state)
    if with_optimizer:
        params, opt_state = checkpoint.load_learned(source, step, abstract)
        return run.layout.place(plain._replace(params=params, opt_state=opt_state))
    params = checkpoint.load_params(source, step, abstract.params)
    return run.layout.place(plain._replace(params=params))


def _size(run: Run) -> str:
    """Tokens of the training part, as far as they are known."""
    kept = [len(part.store.train.ids) for part in run.parts if isinstance(part, Kept)]
    streamed = ["a stream"] * (len(run.parts) - len(kept))
    return " + ".join([*(f"{tokens:,}" for tokens in kept), *streamed])


def _announce(run: Run, restored: Sidecar | None) -> None:
    plan, step = run.plan, restored.step if restored else 0
    logging.info(
        "%s: %s parameters; %d %s tokens in the vocabulary, %s in the training part; %s a step",
        run.shape.name,
        f"{run.record.parameters:,}",
        run.tokenizer.vocab_size,
        run.tokenizer.kind,
        _size(run),
        f"{plan.tokens_per_step:,}",
    )
    if restored and step >= plan.steps:
        logging.info(
            "nothing to train: the run stands at step %d of %d; raise train.steps to go on",
            step,
            plan.steps,
        )
    else:
        start = "resuming from" if restored else "starting at"
        logging.info("%s step %d of %d", start, step, plan.steps)


def refuse_leak(values: Mapping[str, float]) -> None:
    """Raises Leak when a loss lies below what any honest model can reach."""
    excess, error = values.get("val/excess_nats", 0.0), values.get("val/excess_nats_se", 0.0)
    if excess < -LEAK_ERRORS * error < 0:  # of one story the error is not known
        raise Leak(
            f"the held-out loss is {-excess:.4f} nats per character below the entropy of the "
            f"corpus (standard error {error:.4f}): the model sees what it should predict; check "
            "masks, targets and the split"
        )
