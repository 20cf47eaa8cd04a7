"""What the input pipeline costs the training loop: how long it waits for its batches.

The loop of train.py without evaluation, saving and metrics, which have costs of their own.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nanogpt_jax import experiment, runtime, step
from nanogpt_jax.bench.main_job import CONFIG
from nanogpt_jax.bench.ours import GPT2
from nanogpt_jax.experiment import Plan
from nanogpt_jax.interface import Batch

# GPT-2's block on windows of characters: the smallest step, and the least to do for a batch.
SMALL = {
    **GPT2,
    "model.n_layer": 4,
    "model.n_head": 4,
    "model.d_model": 128,
    "model.max_seq_len": 64,
    "train.seq_len": 64,
    "train.batch_size": 12,
    "data.source": "bundled:tales",
    "data.format": "stream",
    "tokenizer.kind": "char",
}


def train(*, config: str, steps: int, fed: bool) -> Callable[[], Mapping[str, Any]]:
    """A round of `steps` updates of `minigpt` or `4x128`; not `fed`, on one batch over and over.

    Tells `waited_share`, the part of its time in which the loop waited for a batch to be there and
    placed on the device. The device may have been at work meanwhile.
    """
    runtime.keep_freed_memory()
    with tempfile.TemporaryDirectory() as nothing:  # assemble reads what a run has left, and writes
        run = experiment.assemble(plan_of(config), Path(nothing), ())
    update = run.layout.compile_step(step.train_step, run.recipe)
    state = run.layout.create(run.create, run.hyper, run.key)
    batches: Iterator[Batch] = run.batches if fed else itertools.repeat(next(run.batches))

    def work() -> Mapping[str, Any]:
        nonlocal state
        waited_seconds, before, start = 0.0, None, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = run.layout.place_batch(next(batches))
            waited_seconds += time.perf_counter() - asked
            state, sums = update(state, batch, run.hyper)
            if before is not None:
                float(before.loss.nats)  # read one step late, as the loop reads it
            before = sums
        if before is not None:
            float(before.loss.nats)
        return {"waited_share": waited_seconds / (time.perf_counter() - start)}

    return work


def plan_of(config: str) -> Plan:
    """What `config` describes."""
    if config == "minigpt":
        return experiment.resolve(experiment.load_config(str(CONFIG)))
    base = experiment.default_config(model="gpt", optimizer="adamw", schedule="warmup_cosine")
    return experiment.resolve(base, [(name, str(value)) for name, value in SMALL.items()])
