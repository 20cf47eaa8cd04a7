"""What the planner says of an update, beside what one takes: both measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from nanogpt_jax import experiment, planning, runtime
from nanogpt_jax.bench.machine import measure_rates
from nanogpt_jax.interface import Batch
from nanogpt_jax.parallel import make_layout
from nanogpt_jax.step import create_state, train_step

TURNS = 3
SECONDS = 0.3  # of updates in a turn, at least one


def error(*, config: str, changes: Mapping[str, str]) -> Callable[[], Mapping[str, Any]]:
    """A round tells the `error` of the prediction, as a share, and both times in milliseconds."""
    runtime.keep_freed_memory()
    shapes = planning.shapes_of(
        experiment.resolve(experiment.load_config(config), [*changes.items()])
    )
    update = _update_of(shapes)
    update()
    started = time.perf_counter()
    update()
    count = max(1, round(SECONDS / (time.perf_counter() - started)))

    def work() -> Mapping[str, Any]:
        predicted, measured = [], []
        for _ in range(TURNS):
            predicted.append(planning.seconds_here(shapes, measure_rates()))
            start = time.perf_counter()
            for _ in range(count):
                update()
            measured.append((time.perf_counter() - start) / count)
        told, taken = statistics.median(predicted), statistics.median(measured)
        return {
            "error": abs(told / taken - 1),
            "predicted_ms": 1e3 * told,
            "measured_ms": 1e3 * taken,
        }

    return work


def _update_of(shapes: planning.Shapes) -> Callable[[], None]:
    """One compiled update on random tokens, waited for."""
    asked, vocab_size = shapes.plan, shapes.vocab_size
    model = experiment.build_model(asked, vocab_size, training=True)
    recipe = experiment.build_recipe(asked, model, vocab_size)
    hyper = experiment.build_hyper(asked, asked.total_steps)
    layout = make_layout(asked.parallel, model.axes, jax.devices())
    step = layout.compile_step(train_step, recipe)
    state = layout.create(
        lambda hyper, key: create_state(recipe, hyper, key), hyper, jax.random.key(0)
    )
    size = (asked.train.batch_size, asked.train.seq_len)
    tokens = np.random.default_rng(0).integers(vocab_size, size=size, dtype=np.int32)
    batch = Batch(tokens, tokens, np.ones(size, np.float32))

    def update() -> None:
        nonlocal state
        state, sums = step(state, layout.place_batch(batch), hyper)
        jax.block_until_ready(sums)

    return update
