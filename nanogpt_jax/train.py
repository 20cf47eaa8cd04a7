"""The loop: update, evaluate, save, report; ends when the budget is spent or a signal asks for it.

Everything it drives is handed over; it knows no file, no flag and no model. State N is the state
after N updates, and the run never steps past its last save.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from absl import logging

from nanogpt_jax import checkpoint, metrics
from nanogpt_jax.checkpoint import Checkpoints
from nanogpt_jax.config import flatten
from nanogpt_jax.errors import Interrupted, Leak, Mismatch
from nanogpt_jax.experiment import Loaded, Plan, Run, assemble, load
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
) -> Loaded:
    """Trains `plan` in `workdir`, from its last full checkpoint if it has one.

    Returns the run at its last checkpoint. `fresh` removes what the directory holds of a run
    before; `require_checkpoint` refuses to start from nothing.
    """
    with Interrupt() as interrupt, checkpoint.lock_run(workdir):
        if fresh:
            _clear(workdir)
        if require_checkpoint:
            checkpoint.choose(workdir, "last", full=True)
        with metrics.log_to_file(workdir / "train.log"):
            logging.info("%s", describe_devices())
            run = assemble(plan, workdir, overrides)
            _loop(run, workdir, interrupt)
    return load(workdir)


def _clear(workdir: Path) -> None:
    """Removes what a run before has written, and nothing else."""
    for name in ("checkpoints", "tensorboard"):
        shutil.rmtree(workdir / name, ignore_errors=True)
    for name in ("run.json", "tokenizer.json", "metrics.jsonl"):
        (workdir / name).unlink(missing_ok=True)


def _loop(run: Run, workdir: Path, interrupt: Interrupt) -> None:
    plan = run.plan
    steps, began = plan.steps, time.monotonic()
    start, restored, state = _start(run, workdir)
    run.record.save(workdir)
    run.tokenizer.save(workdir / "tokenizer.json")
    _announce(run, start, steps)
    milestones = checkpoint.milestone_steps(
        int(run.hyper["schedule"]["total_steps"]), plan.checkpoint.milestones
    )
    saves = Checkpoints(
        workdir,
        keep=plan.checkpoint.keep,
        milestone_steps=milestones,
        model=run.shape,
        tokenizer_sha256=run.tokenizer.sha256,
    )

    def spent() -> float:
        """The share of the budget that is used up."""
        by_time = plan.train.max_seconds and (time.monotonic() - began) / plan.train.max_seconds
        return max(by_time, step / steps if steps else 1.0)

    step = start
    writers = metrics.open_writers(
        workdir,
        start_step=start,
        total_steps=None if plan.train.max_seconds else steps,
        tracker=plan.log.tracker,
        fraction=spent if plan.train.max_seconds else None,
    )
    with writers as writer, saves as checkpoints:
        writer.config(flatten(plan.config))
        report = Report(
            writer,
            every_steps=plan.log.every_steps,
            tokens_per_step=plan.tokens_per_step,
            flops_per_token=run.flops_per_token,
        )
        train_one = run.layout.compile_step(functools.partial(train_step, run.recipe))
        for step in range(start, steps + 1):
            stopping = interrupt.requested  # read once: a signal between two reads would be lost
            last = stopping or spent() >= 1.0
            if step != restored:  # the run that wrote a state has evaluated and saved it
                plain = functools.partial(run.layout.plain, state)
                values: dict[str, float] = {}
                if _due(step, plan.eval.every_steps, last) and not stopping:
                    report.flush()
                    values = run.evaluator(plain().params)
                    writer.scalars(step, values)
                    writer.text(step, "sample", run.evaluator.sample(plain().params))
                full = _due(step, plan.checkpoint.every_steps, last) and (step > 0 or last)
                if full or step in milestones:
                    report.flush()  # no update unread
                    checkpoints.save(
                        step,
                        plain(),
                        run.batches.state(),
                        kind=("final" if last else "periodic") if full else "milestone",
                        tokens_seen=step * plan.tokens_per_step,
                        metrics=values,
                        interrupted=stopping,
                    )
                _refuse_leak(values)
            if last:
                break
            state, sums = train_one(state, run.layout.place_batch(next(run.batches)), run.hyper)
            report(step + 1, sums)  # reads the update before while this one runs
            checkpoints.check()
    if interrupt.requested and step < steps:
        raise Interrupted(
            f"interrupted at step {step} of {steps} and saved; the same command goes on from there"
        )


def _due(step: int, every: int, last: bool) -> bool:
    return last or (every > 0 and step % every == 0)


def _start(run: Run, workdir: Path) -> tuple[int, int | None, TrainState]:
    """Where the run starts, the step that was restored, and the state there."""
    held = [one.step for one in checkpoint.read_sidecars(workdir) if one.full]
    if not held:
        state = run.layout.create(run.create, run.hyper, run.key)
        if run.plan.init.from_:
            state = run.layout.place(_with_params_of(run, state))
        return 0, None, state
    with Checkpoints(
        workdir, keep=1, milestone_steps=(), model=run.shape, tokenizer_sha256=""
    ) as saved:
        state, position = saved.restore(
            held[-1], run.layout.abstract(run.create, run.hyper, run.key)
        )
    run.batches.restore(position)
    logging.info("resuming from step %d", held[-1])
    return held[-1], held[-1], run.layout.place(state)


def _with_params_of(run: Run, state: TrainState) -> TrainState:
    """`state` with the parameters of the run that `init.from` names."""
    source = load(Path(run.plan.init.from_).expanduser().resolve())
    plain = run.layout.plain(state)
    if (source.shape, source.tokenizer.sha256) != (run.shape, run.tokenizer.sha256):
        raise Mismatch(
            f"init.from={run.plan.init.from_}: that run has another model or tokenizer "
            f"({source.shape}); found here: {run.shape}; set tokenizer.path to its tokenizer.json"
        )
    placed = jax.tree.map(
        lambda new, old: jax.device_put(new, old.sharding), source.params, plain.params
    )
    return plain.replace(params=placed)


def _announce(run: Run, start: int, steps: int) -> None:
    plan = run.plan
    logging.info(
        "%s: %s parameters, vocabulary %d (%s), %d training tokens, %d tokens a step, steps %d-%d",
        run.shape.name,
        f"{run.record.parameters:,}",
        run.tokenizer.vocab_size,
        run.tokenizer.kind,
        len(run.store.train.ids),
        plan.tokens_per_step,
        start,
        steps,
    )


def _refuse_leak(values: Mapping[str, float]) -> None:
    """Raises Leak when a loss lies below what any honest model can reach."""
    excess, error = values.get("val/excess_nats", 0.0), values.get("val/excess_nats_se", 0.0)
    if excess < -LEAK_ERRORS * error:
        raise Leak(
            f"the held-out loss is {-excess:.4f} nats per character below the entropy of the "
            f"corpus ({-excess / error:.0f} standard errors): the model sees what it should "
            "predict; check masks, targets and the split"
        )
