"""One training step: gradients over micro-shards, clipping, the optimizer's direction, the rate.

The same function runs under jit on one device, on any mesh, under pmap (`reduce` = psum) and
under vmap. Everything that is a number arrives in `hyper`; only names and switches are compiled
in. It measures nothing but sums, which stay on the device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from nanogpt_jax import telemetry
from nanogpt_jax.interface import Array, Batch, Key, LanguageModel, Mean, Params
from nanogpt_jax.losses import LossSums, row_losses, sum_rows
from nanogpt_jax.optim import optimizers, schedules
from nanogpt_jax.optim.groups import group
from nanogpt_jax.state import TrainState
from nanogpt_jax.telemetry import Glimpse, Measures

Hyper = Mapping[str, Any]
Reduce = Callable[..., Any]  # (tree, largest=False): sums over devices, or the largest of each


class Recipe(NamedTuple):
    """What is compiled into a step: names and switches, no numbers."""

    model: LanguageModel
    vocab_size: int
    optimizer: str
    schedule: str
    switches: Mapping[str, Any] = {}  # of the optimizer, those that are not floats
    accumulate: int = 1
    dropout: bool = False
    clip_logits: bool = False
    chunk_logits: int | None = None  # of the loss; None is the backend's best
    observe: bool = False  # what every layer does, for `observe_step`


class StepSums(NamedTuple):
    """What a step leaves besides the state: sums of its losses, gradient norm, rate applied."""

    loss: LossSums
    grad_norm: Array
    learning_rate: Array
    auxiliary: Mapping[str, Mean] = {}  # of the model's further losses, unweighted
    layers: Measures | None = None  # of the steps that are looked into


def identity(tree: Any, largest: bool = False) -> Any:
    """The reduction of a program that already sees the whole batch."""
    del largest
    return tree


def optimizer(recipe: Recipe, hyper: Hyper) -> optax.GradientTransformation:
    """The optimizer of `recipe` with the numbers of `hyper`."""
    build = optimizers[recipe.optimizer]
    return build(group(recipe.model.axes), **recipe.switches, **hyper["optimizer"])


def create_state(recipe: Recipe, hyper: Hyper, key: Key) -> TrainState:
    """State 0: parameters from `key`, and a key for the run folded from it."""
    params = recipe.model.init(key)
    opt_state = optimizer(recipe, hyper).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, jax.random.fold_in(key, 1))


def loss_sums(
    recipe: Recipe, params: Params, batch: Batch, dropout_key: Key | None = None
) -> LossSums:
    """Next-token loss of a batch."""
    return _losses(recipe, params, batch, dropout_key)[0]


def _losses(
    recipe: Recipe,
    params: Params,
    batch: Batch,
    dropout_key: Key | None,
    logit_gradient_cap: Array | None = None,
) -> tuple[LossSums, dict[str, Mean], Glimpse]:
    """Next-token loss and auxiliary losses of a batch, and what `recipe.observe` wants to see."""
    apply = recipe.model.apply
    if recipe.observe:
        apply = functools.partial(apply, capture=telemetry.sites_of(recipe.model))
    output = apply(
        params,
        batch.inputs_BT,
        segments_BT=batch.segments_BT,
        weights_BT=batch.weights_BT,
        dropout_key=dropout_key,
    )
    nats_B = row_losses(
        lambda hidden: recipe.model.unembed(params, hidden),
        output.hidden_BTD,
        batch.targets_BT,
        batch.weights_BT,
        vocab_size=recipe.vocab_size,
        chunk_logits=recipe.chunk_logits,
        logit_gradient_cap=logit_gradient_cap,
    )
    glimpse = telemetry.look(output) if recipe.observe else Glimpse()
    return sum_rows(nats_B, jnp.sum(batch.weights_BT, axis=1)), output.auxiliary, glimpse


def train_step(
    recipe: Recipe, state: TrainState, batch: Batch, hyper: Hyper, reduce: Reduce = identity
) -> tuple[TrainState, StepSums]:
    """State N + 1 from state N and batch N.

    Row i of the batch belongs to micro-shard i mod `accumulate`; gradients are sums over tokens
    until one division by the token count of the whole batch. What is descended is the mean loss
    of a token and `aux_weight` times each auxiliary mean.
    """
    key = jax.random.fold_in(state.key, state.step) if recipe.dropout else None
    cap = hyper["clip_logits_norm"] if recipe.clip_logits else None

    def gradient(batch: Batch, shard: Array | int) -> tuple[Any, Any]:
        def objective(params: Params) -> tuple[Array, Any]:
            shard_key = None if key is None else jax.random.fold_in(key, shard)
            sums, auxiliary, glimpse = _losses(recipe, params, batch, shard_key, cap)
            # Its count is that of the tokens, so the division below is right for both.
            further = (hyper["aux_weight"] * mean.total for mean in auxiliary.values())
            return sum(further, start=sums.nats), (sums, auxiliary, glimpse)

        grads, (sums, auxiliary, glimpse) = jax.grad(objective, has_aux=True)(state.params)
        return (sums, auxiliary, glimpse.sums, grads), glimpse.largest

    summed, largest = _accumulate(gradient, batch, recipe.accumulate)
    sums, auxiliary, seen, grads = reduce(summed)
    tokens = jnp.where(sums.tokens > 0, sums.tokens, 1.0)  # a batch without any has no gradient
    grads = jax.tree.map(lambda grad: grad / tokens, grads)
    norm = optax.tree.norm(grads)
    clip = hyper["clip_norm"]
    scale = jnp.where(clip > 0, jnp.minimum(1.0, clip / (norm + 1e-6)), 1.0)
    clipped = jax.tree.map(lambda grad: grad * scale, grads)
    direction, opt_state = optimizer(recipe, hyper).update(clipped, state.opt_state, state.params)
    rate = hyper["learning_rate"] * schedules[recipe.schedule](state.step, **hyper["schedule"])
    params = jax.tree.map(
        lambda param, change: (param - rate * change).astype(param.dtype), state.params, direction
    )
    after = TrainState(state.step + 1, params, opt_state, state.key)
    layers = None
    if recipe.observe:
        updates = jax.tree.map(lambda change: rate * change, direction)
        glimpse = Glimpse(seen, reduce(largest, largest=True))
        layers = telemetry.measure(state.params, grads, updates, glimpse)
    return after, StepSums(sums, norm, rate, auxiliary, layers)


def observe_step(
    recipe: Recipe, state: TrainState, batch: Batch, hyper: Hyper, reduce: Reduce = identity
) -> tuple[TrainState, Measures]:
    """The state as it came, and what `train_step` of the same arguments does in every layer.

    A program of its own beside that of `train_step`, which thus rounds as it does without.
    """
    recipe = recipe._replace(observe=True)
    layers = train_step(recipe, state, batch, hyper, reduce)[1].layers
    assert layers is not None
    return state, layers


def _accumulate(
    gradient: Callable[[Batch, Any], tuple[Any, Any]], batch: Batch, shards: int
) -> tuple[Any, Any]:
    """What `gradient` sums up and what it finds largest, over micro-shards in one compiled loop."""
    if shards == 1:
        return gradient(batch, 0)

    def split(x: Array) -> Array:
        return x.reshape(-1, shards, *x.shape[1:]).swapaxes(0, 1)

    micro = jax.tree.map(split, batch)
    shapes, _ = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], micro), 0)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Any, shard: tuple[Batch, Array]) -> tuple[Any, Any]:
        summed, largest = gradient(*shard)
        return jax.tree.map(jnp.add, total, summed), largest

    summed, largest = jax.lax.scan(add, zeros, (micro, jnp.arange(shards)))
    return summed, jax.tree.map(lambda each: jnp.max(each, axis=0), largest)
