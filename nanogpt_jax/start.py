"""What a run begins with: the state it goes on from, or state 0, and what is said about it.

Here a directory's damaged checkpoints are set aside, and `--fresh` removes a run. What happens to
the state afterwards is the business of train.py.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection
from pathlib import Path

from absl import logging

from nanogpt_jax import checkpoint, distributed, exact, record
from nanogpt_jax.checkpoint import Checkpoints, Sidecar
from nanogpt_jax.data.parts import Kept
from nanogpt_jax.errors import Damaged, Mismatch
from nanogpt_jax.experiment import Run
from nanogpt_jax.state import TrainState


@dataclasses.dataclass(frozen=True)
class Start:
    """What becomes of a run that the directory already holds; by default it goes on.

    `fresh` removes it first; `require_checkpoint` refuses to start from nothing; `allow_change`
    names the fields that may differ from those of the run.
    """

    fresh: bool = False
    require_checkpoint: bool = False
    allow_change: tuple[str, ...] = ()


GO_ON = Start()
NOTHING = -1  # the step of a directory without a checkpoint


def clear(workdir: Path) -> None:
    """Removes what a run before has written, and nothing else."""
    names = ("checkpoints", "tensorboard", "profile", "tracker_id", "metrics.jsonl", "train.log")
    for name in (*names, "tokenizer.json", "run.json"):
        path = workdir / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def newest(workdir: Path, required: bool) -> Sidecar | None:
    """The checkpoint to go on from, if there is one; NoCheckpoint when one is `required`.

    Of several processes the first looks, and sets aside, for all.
    """
    step = distributed.from_first(lambda: _newest_step(workdir, required))
    if step == NOTHING:
        return None
    record.read(workdir)  # without the record of its run, a checkpoint could be of any
    return checkpoint.read_sidecar(workdir, step)


def _newest_step(workdir: Path, required: bool) -> int:
    damaged: list[Damaged] = []
    step = checkpoint.newest_full_step(workdir, damaged.append)
    for each in damaged:
        logging.warning(
            "DAMAGED CHECKPOINT, set aside as %s: %s of step %d: %s; going on from step %d",
            checkpoint.set_aside(workdir, each.step).name,
            each.file,
            each.step,
            each.problem,
            step,
        )
    if step is None:
        if required:
            checkpoint.choose(workdir, "last", full=True)  # which says what there is
        return NOTHING
    return step


def open_checkpoints(run: Run, workdir: Path, milestones: Collection[int]) -> Checkpoints:
    return Checkpoints(
        workdir,
        keep=run.plan.checkpoint.keep,
        milestone_steps=milestones,
        model=run.shape,
        tokenizer_sha256=run.tokenizer.sha256,
        exact=run.plan.parallel.exact,
    )


def restore(run: Run, workdir: Path, step: int) -> TrainState:
    """The state that was saved, with the batches where it left them; nothing is written."""
    abstract = run.layout.abstract(run.create, run.hyper, run.key)
    state, position = open_checkpoints(run, workdir, ()).restore(step, abstract)
    try:
        run.batches.restore(position)
    except (KeyError, TypeError, ValueError) as error:
        raise Mismatch(
            f"{workdir} stands in its corpus where this one cannot go ({error!r}): a run keeps its "
            "data.format and data.source; choose another --workdir, or start over with --fresh"
        ) from error
    return run.layout.place(state)


def create(run: Run) -> TrainState:
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


def announce(run: Run, restored: Sidecar | None) -> None:
    plan, step = run.plan, restored.step if restored else 0
    if plan.parallel.exact:
        exact.announce(restored.environment if restored else None)
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
