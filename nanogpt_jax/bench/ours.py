"""Our side of the benchmarks: each function prepares some work and returns a round of it.

The same names, shapes and amounts as in peers/nanogpt.py. What runs is the house's own code: the
training step as the loop runs it, the attention that every layer calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax import runtime, step
from nanogpt_jax.attention import attend_causally, attend_with_cudnn
from nanogpt_jax.costs import parameter_count
from nanogpt_jax.experiment import Plan, default_config, resolve
from nanogpt_jax.experiment.building import build_hyper, build_model, build_recipe
from nanogpt_jax.interface import Batch
from nanogpt_jax.parallel import make_layout

# GPT-2's block, as nanoGPT has it by default: no biases.
GPT2 = {
    "model.norm": "layer",
    "model.norm_gain": True,
    "model.norm_eps": 1e-5,
    "model.embed_norm": False,
    "model.positions": "learned",
    "model.qk_norm": "off",
    "model.activation": "gelu",
    "model.tied_head": True,
    "model.logit_softcap": 0.0,
    "model.init": "gpt2",
    "optimizer.b2": 0.99,
    "optimizer.weight_decay": 0.1,
    "optimizer.clip_norm": 1.0,
    "optimizer.learning_rate": 1e-3,
}


def train(
    *,
    n_layer: int,
    n_head: int,
    d_model: int,
    length: int,
    batch: int,
    vocab: int,
    steps: int,
    dtype: str,
) -> Callable[[], Mapping[str, Any]]:
    """A round of `steps` updates, the loss of each read while the next one runs."""
    runtime.keep_freed_memory()
    changes = {"train.seq_len": length, "train.batch_size": batch, "train.compute_dtype": dtype}
    plan = plan_of(n_layer, n_head, d_model, length, changes)
    recipe = build_recipe(plan, build_model(plan, vocab, training=True), vocab)
    hyper = build_hyper(plan, total_steps=10**6)
    layout = make_layout(plan.parallel, recipe.model.axes, jax.devices())
    update = layout.compile_step(step.train_step, recipe)
    key = jax.random.key(0)
    state = layout.create(lambda hyper, key: step.create_state(recipe, hyper, key), hyper, key)
    text = np.random.default_rng(0).integers(vocab, size=(8, batch, length + 1)).astype(np.int32)
    ones = np.ones((batch, length), np.float32)
    batches = [Batch(rows[:, :-1], rows[:, 1:], ones) for rows in text]

    def work() -> Mapping[str, Any]:
        nonlocal state
        before, loss = None, 0.0
        for number in range(steps):
            state, sums = update(state, layout.place_batch(batches[number % len(batches)]), hyper)
            if before is not None:
                loss = float(before.loss.nats / before.loss.tokens)
            before = sums
        if before is not None:
            loss = float(before.loss.nats / before.loss.tokens)
        return {"loss": loss}

    return work


def parameters(*, n_layer: int, n_head: int, d_model: int, length: int, vocab: int) -> int:
    """How many parameters the model of `train` has."""
    model = build_model(plan_of(n_layer, n_head, d_model, length, {"train.seq_len": length}), vocab)
    return parameter_count(jax.eval_shape(model.init, jax.random.key(0)))


def plan_of(
    n_layer: int, n_head: int, d_model: int, length: int, changes: Mapping[str, Any]
) -> Plan:
    """GPT-2's block at this size, with `changes`."""
    sizes = {
        "model.n_layer": n_layer,
        "model.n_head": n_head,
        "model.d_model": d_model,
        "model.max_seq_len": length,
    }
    base = default_config(model="gpt", optimizer="adamw", schedule="warmup_cosine")
    words = {**GPT2, **sizes, **changes}
    return resolve(base, [(name, str(value)) for name, value in words.items()])


def attention(
    *,
    batch: int,
    heads: int,
    length: int,
    channels: int,
    repeats: int,
    dtype: str,
    cudnn: bool = False,
) -> Callable[[], Mapping[str, Any]]:
    """A round of causal attention, forward and backward, `repeats` times."""
    runtime.keep_freed_memory()
    rng = np.random.default_rng(0)
    shape = (batch, heads, length, channels)
    q, k, v, weights = (jnp.asarray(rng.normal(size=shape), dtype) for _ in range(4))
    attend = attend_with_cudnn if cudnn else attend_causally

    @jax.jit
    def gradients(q: Any, k: Any, v: Any, weights: Any) -> Any:
        def weighed(q: Any, k: Any, v: Any) -> Any:
            return jnp.sum(attend(q, k, v) * weights, dtype=jnp.float32)

        return jax.grad(weighed, argnums=(0, 1, 2))(q, k, v)

    def work() -> Mapping[str, Any]:
        found = None
        for _ in range(repeats):
            found = gradients(q, k, v, weights)
        jax.block_until_ready(found)
        return {}

    return work


def matmul(*, size: int, repeats: int, dtype: str) -> Callable[[], Mapping[str, Any]]:
    """A round of square products."""
    runtime.keep_freed_memory()
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.normal(size=(size, size)), dtype) for _ in range(2))
    product = jax.jit(jnp.matmul)

    def work() -> Mapping[str, Any]:
        c = a
        for _ in range(repeats):
            c = product(a, b)
        return {"corner": float(c[0, 0])}

    return work


def softmax(*, rows: int, size: int, repeats: int) -> Callable[[], Mapping[str, Any]]:
    """A round of what the loss does to logits, forward and backward: no product, all exponents."""
    runtime.keep_freed_memory()
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(rows, size)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jax.nn.logsumexp(x, axis=-1))))

    def work() -> Mapping[str, Any]:
        found = None
        for _ in range(repeats):
            found = gradient(logits)
        jax.block_until_ready(found)
        return {}

    return work
