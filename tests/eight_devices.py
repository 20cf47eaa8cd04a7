"""Trains a tiny GPT on one and on eight simulated devices, in every layout; prints JSON.

A process of its own, because the number of devices is fixed when JAX starts: test_parallel.py
runs it once and judges what it prints.
"""

from __future__ import annotations

import functools
import json
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from nanogpt_jax import models
from nanogpt_jax.config import Parallel
from nanogpt_jax.interface import Batch
from nanogpt_jax.models import gpt
from nanogpt_jax.parallel import Layout, make_layout
from nanogpt_jax.step import create_state, train_step
from tests.fakes import compile_events, hyper_of, recipe_of

ROWS, LENGTH, VOCABULARY = 16, 8, 16
LAYOUTS = {
    "one": Parallel(data=1),
    "data": Parallel(data=8),
    "mesh": Parallel(data=2, fsdp=2, tensor=2),
    "pmap": Parallel(mode="pmap"),
}
# Each axis by itself, for what its program sends; four heads are split by four at most.
AXES = {
    "data": Parallel(data=8),
    "fsdp": Parallel(data=1, fsdp=8),
    "tensor": Parallel(data=2, tensor=4),
}
COLLECTIVE = re.compile(
    r"= (?P<result>.*?) "
    r"(?P<name>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
ARRAY = re.compile(r"(?P<dtype>f32|s32|u32|pred)\[(?P<sizes>[0-9,]*)\]")
BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1}


def layout_of(name: str | Parallel, n_kv_head: int, unroll: int | None = 1) -> tuple[Layout, Any]:
    config = gpt.Config(
        n_layer=2, n_head=4, n_kv_head=n_kv_head, d_model=16, max_seq_len=LENGTH, norm_gain=True
    )
    model = models.build("gpt", config, VOCABULARY, unroll=unroll)
    rng = np.random.default_rng(0)
    # NumPy draws the parameters: a generator of JAX would be compiled for every layout.
    drawn = jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / 4).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0)),
    )
    model = model._replace(init=lambda _: jax.tree.map(jnp.asarray, drawn))
    parallel = LAYOUTS[name] if isinstance(name, str) else name
    return make_layout(parallel, model.axes, jax.devices()), model


def batches(steps: int) -> list[Batch]:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, VOCABULARY, (steps, 2, ROWS, LENGTH), dtype=np.int32)
    weights = (rng.random((steps, ROWS, LENGTH)) < 0.8).astype(np.float32)
    return [Batch(drawn[step, 0], drawn[step, 1], weights[step]) for step in range(steps)]


def pieces(array: jax.Array) -> int:
    """Distinct parts that the devices hold."""
    return len({str(shard.index) for shard in array.addressable_shards})


def train(name: str, optimizer: str, steps: int, accumulate: int = 1) -> dict[str, Any]:
    layout, model = layout_of(name, n_kv_head=2)
    recipe = recipe_of(optimizer, model, VOCABULARY, accumulate=accumulate)
    hyper = hyper_of(optimizer, clip_norm=1.0)
    start = (functools.partial(create_state, recipe), hyper, jax.random.key(0))
    state = layout.create(*start)
    update = layout.compile_step(train_step, recipe)
    losses, events_of_step = [], []
    for batch in batches(steps):
        # A single device takes host arrays as they are.
        placed = jax.tree.map(jnp.asarray, layout.place_batch(batch))
        with compile_events() as events:
            state, sums = update(state, placed, hyper)
        events_of_step.append(len(events))
        losses.append(float(sums.loss.nats) / float(sums.loss.tokens))
    paths = jax.tree.leaves_with_path(state.params)
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    moments = {
        jax.tree_util.keystr(path): str(leaf.sharding)
        for path, leaf in jax.tree.leaves_with_path(state.opt_state)
    }
    plain = layout.plain(state)
    as_announced = jax.tree.map(
        lambda leaf, told: leaf.sharding.is_equivalent_to(told.sharding, leaf.ndim),
        plain,
        layout.abstract(*start),
    )
    return {
        "losses": losses,
        "compilations": events_of_step,
        "devices": len(placed.inputs_BT.sharding.device_set),
        "batch_pieces": pieces(placed.inputs_BT),
        "pieces": {name: pieces(leaf) for name, (_, leaf) in zip(names, paths, strict=True)},
        "sharding": {
            name: str(leaf.sharding) for name, (_, leaf) in zip(names, paths, strict=True)
        },
        "moments": moments,
        "as_announced": all(jax.tree.leaves(as_announced)),
        "step": int(plain.step),
    }


def constraints(name: str) -> int:
    """Sharding constraints in the program of a step."""
    layout, model = layout_of(name, n_kv_head=2)
    recipe, hyper = recipe_of("sgd", model, VOCABULARY), hyper_of("sgd")
    state = layout.create(functools.partial(create_state, recipe), hyper, jax.random.key(0))
    step: Any = layout.compile_step(train_step, recipe)
    text = step.lower(state, layout.place_batch(batches(1)[0]), hyper).as_text()
    # JAX itself pins the data of the key, to no mesh.
    lines = [line for line in text.splitlines() if "@empty_mesh" not in line]
    return sum("sharding_constraint" in line for line in lines)


def sent(axis: str) -> dict[str, Any]:
    """What the compiled step of one axis sends, in bytes by collective, and what a device holds."""
    layout, model = layout_of(AXES[axis], n_kv_head=4, unroll=None)  # a loop would count once
    recipe, hyper = recipe_of("adamw", model, VOCABULARY), hyper_of("adamw")
    state = layout.create(functools.partial(create_state, recipe), hyper, jax.random.key(0))
    step: Any = layout.compile_step(train_step, recipe)
    text = step.lower(state, layout.place_batch(batches(1)[0]), hyper).compile().as_text()
    found: dict[str, list[int]] = {}
    for match in COLLECTIVE.finditer(text):
        size = sum(
            BYTES[array["dtype"]] * math.prod(int(n) for n in array["sizes"].split(",") if n)
            for array in ARRAY.finditer(match["result"])
        )
        found.setdefault(match["name"], []).append(size)
    params = jax.tree.leaves(state.params)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    return {
        "sent": found,
        "held": sum(leaf.addressable_shards[0].data.nbytes for leaf in [*params, *moments]),
        "whole": sum(leaf.nbytes for leaf in [*params, *moments]),
        "params": sum(leaf.nbytes for leaf in params),
    }


def undivided() -> dict[str, Any]:
    """One kv head over two tensor devices: the warnings, and what became of the weights."""
    warnings: list[str] = []
    logging.get_absl_logger().addFilter(
        lambda record: warnings.append(record.getMessage()) or False
    )
    layout, model = layout_of("mesh", n_kv_head=1)
    recipe, hyper = recipe_of("sgd", model, VOCABULARY), hyper_of("sgd")
    start = (functools.partial(create_state, recipe), hyper, jax.random.key(0))
    attention = layout.create(*start).params["layers"]["attention"]
    layout.abstract(*start)
    return {
        "warnings": warnings,
        "specs": {name: list(leaf.sharding.spec) for name, leaf in attention.items()},
    }


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)  # compiles in half the time
    measured: dict[str, Any] = {name: train(name, "adamw", 20) for name in LAYOUTS}
    for name in ("one", "mesh"):
        measured[f"muon {name}"] = train(name, "muon", 4, accumulate=2)
    measured["constraints"] = {name: constraints(name) for name in ("one", "mesh")}
    measured["axes"] = {axis: sent(axis) for axis in AXES}
    measured["undivided"] = undivided()
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
