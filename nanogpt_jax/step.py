"""One training step: gradients over micro-shards, clipping, the optimizer's direction, the rate.

The same function runs under jit on one device, on any mesh, under pmap (`reduce` = psum) and
under vmap; exact.py runs its two halves as programs of their own. Everything that is a number
arrives in `hyper`; only names and switches are compiled in. It measures nothing but sums, which
stay on the device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
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
    skip_nonfinite: bool = False  # a loss or gradient that is not finite changes nothing
    width_ratio: float = 1.0  # muP: base width over width; 1 leaves no trace in the program
    observe: bool = False  # what every layer does, for `observe_step`


class Sums(NamedTuple):
    """What adds up over the rows of a batch: losses, what was looked at, and gradients."""

    loss: LossSums
    auxiliary: Mapping[str, Mean]
    seen: Mapping[str, Mean]
    grads: Params


class Gathered(NamedTuple):
    """What rows give to an update: sums, and of `largest` the largest of any row."""

    summed: Sums
    largest: Mapping[str, Array] = {}


class StepSums(NamedTuple):
    """What a step leaves besides the state: sums of its losses, gradient norm, rate applied."""

    loss: LossSums
    grad_norm: Array
    learning_rate: Array
    auxiliary: Mapping[str, Mean] = {}  # of the model's further losses, unweighted
    layers: Measures | None = None  # of the steps that are looked into
    bad_leaf: Array | None = None  # the first of the gradient that is not finite; -1: all are


def name_leaf(recipe: Recipe, number: int) -> str:
    """The path of a leaf of parameters, or of a gradient, by its number."""
    axes = recipe.model.axes
    paths = jax.tree.leaves_with_path(axes, is_leaf=lambda node: isinstance(node, tuple))
    return jax.tree_util.keystr(paths[number][0], simple=True, separator="/")


def identity(tree: Any, largest: bool = False) -> Any:
    """The reduction of a program that already sees the whole batch."""
    del largest
    return tree


def optimizer(recipe: Recipe, hyper: Hyper) -> optax.GradientTransformation:
    """The optimizer of `recipe` with the numbers of `hyper`."""
    build = optimizers[recipe.optimizer]
    groups = group(recipe.model.axes, recipe.width_ratio)
    return build(groups, **recipe.switches, **hyper["optimizer"])


def create_state(recipe: Recipe, hyper: Hyper, key: Key) -> TrainState:
    """State 0: parameters from `key`, matrices scaled, and a key for the run folded from it."""
    groups = group(recipe.model.axes)
    params = jax.tree.map(
        lambda param, scaled: param * hyper["init_scale"].astype(param.dtype) if scaled else param,
        recipe.model.init(key),
        groups.mask("matrix", "embedding", "head"),
    )
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
    recipe: Recipe,
    state: TrainState,
    batch: Batch | Gathered,
    hyper: Hyper,
    reduce: Reduce = identity,
) -> tuple[TrainState, StepSums]:
    """State N + 1 from state N and batch N, or from what that batch has given elsewhere."""
    gathered = batch if isinstance(batch, Gathered) else _gather(recipe, state, batch, hyper)
    summed, largest = gathered
    largest = reduce(largest, largest=True) if largest else largest
    return _update(recipe, state, reduce(summed), largest, hyper)


def observe_step(
    recipe: Recipe,
    state: TrainState,
    batch: Batch | Gathered,
    hyper: Hyper,
    reduce: Reduce = identity,
) -> tuple[TrainState, Measures]:
    """The state as it came, and what `train_step` of the same arguments does in every layer.

    A program of its own beside that of `train_step`, which thus rounds as it does without.
    """
    recipe = recipe._replace(observe=True)
    layers = train_step(recipe, state, batch, hyper, reduce)[1].layers
    assert layers is not None
    return state, layers


def shard_gradient(
    recipe: Recipe, state: TrainState, batch: Batch, hyper: Hyper, shard: Array | int
) -> Gathered:
    """What micro-shard number `shard`, whose rows are `batch`, gives to an update.

    What is descended is the mean loss of a token and `aux_weight` times each auxiliary mean;
    gradients are sums over tokens until `train_step` divides them. Reads no optimizer's state.
    """
    key = None
    if recipe.dropout:
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), shard)
    cap = hyper["clip_logits_norm"] if recipe.clip_logits else None

    def objective(params: Params) -> tuple[Array, Any]:
        sums, auxiliary, glimpse = _losses(recipe, params, batch, key, cap)
        # Its count is that of the tokens, so one division is right for both.
        further = (hyper["aux_weight"] * mean.total for mean in auxiliary.values())
        return sum(further, start=sums.nats), (sums, auxiliary, glimpse)

    grads, (sums, auxiliary, glimpse) = jax.grad(objective, has_aux=True)(state.params)
    return Gathered(Sums(sums, auxiliary, glimpse.sums, grads), glimpse.largest)


def add_up(shards: Sequence[Gathered]) -> Gathered:
    """What several micro-shards give together, added from the first to the last."""
    summed, largest = zip(*shards, strict=True)
    return Gathered(
        functools.reduce(functools.partial(jax.tree.map, jnp.add), summed),
        functools.reduce(functools.partial(jax.tree.map, jnp.maximum), largest),
    )


def _gather(recipe: Recipe, state: TrainState, batch: Batch, hyper: Hyper) -> Gathered:
    """What a batch gives, its micro-shards in one compiled loop; row i is of shard i mod A."""
    if (A := recipe.accumulate) == 1:
        return shard_gradient(recipe, state, batch, hyper, 0)

    def split(x: Array) -> Array:
        return x.reshape(-1, A, *x.shape[1:]).swapaxes(0, 1)

    def gradient(batch: Batch, shard: Array | int) -> Gathered:
        return shard_gradient(recipe, state, batch, hyper, shard)

    micro = jax.tree.map(split, batch)
    shapes, _ = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], micro), 0)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Sums, shard: tuple[Batch, Array]) -> tuple[Sums, Any]:
        summed, largest = gradient(*shard)
        return jax.tree.map(jnp.add, total, summed), largest

    summed, largest = jax.lax.scan(add, zeros, (micro, jnp.arange(A)))
    return Gathered(summed, jax.tree.map(lambda each: jnp.max(each, axis=0), largest))


def _update(
    recipe: Recipe, state: TrainState, summed: Sums, largest: Mapping[str, Array], hyper: Hyper
) -> tuple[TrainState, StepSums]:
    """State N + 1: gradients of the mean over tokens, clipped, given a direction and a rate."""
    tokens = summed.loss.tokens
    tokens = jnp.where(tokens > 0, tokens, 1.0)  # a batch without any has no gradient
    grads = jax.tree.map(lambda grad: grad / tokens, summed.grads)
    squares = jnp.stack([jnp.sum(grad**2) for grad in jax.tree.leaves(grads)])
    norm = jnp.sqrt(sum(squares))
    clip = hyper["clip_norm"]
    scale = jnp.where(clip > 0, jnp.minimum(1.0, clip / (norm + 1e-6)), 1.0)
    clipped = jax.tree.map(lambda grad: grad * scale, grads)
    direction, opt_state = optimizer(recipe, hyper).update(clipped, state.opt_state, state.params)
    rate = hyper["learning_rate"] * schedules[recipe.schedule](state.step, **hyper["schedule"])
    params = jax.tree.map(
        lambda param, change: (param - rate * change).astype(param.dtype), state.params, direction
    )
    finite = jnp.isfinite(squares)
    bad_leaf = jnp.where(finite.all(), -1, jnp.argmin(finite))
    if recipe.skip_nonfinite:
        sound = jnp.isfinite(norm) & jnp.isfinite(summed.loss.nats)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(sound, new, old),
            (params, opt_state),
            (state.params, state.opt_state),
        )
    after = TrainState(state.step + 1, params, opt_state, state.key)
    layers = None
    if recipe.observe:
        updates = jax.tree.map(lambda change: rate * change, direction)
        glimpse = Glimpse(summed.seen, largest)
        layers = telemetry.measure(state.params, grads, updates, glimpse)
    return after, StepSums(summed.loss, norm, rate, summed.auxiliary, layers, bad_leaf)
