"""What every layer does in a step: sizes of parameters, gradients, updates and activations.

Formulas on what a step has at hand, and the names under which a run writes them. When they are
computed, by which program, and how sums meet over devices is the business of step.py and train.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.functional import at_least_float32
from nanogpt_jax.interface import Array, LanguageModel, Mean, ModelOutput, Params

RESIDUAL, LARGEST_LOGIT = "residual", "attention_logit_max"
# A group of parameters -> measure -> array: one value a layer in "layers", else a single one.
Measures = dict[str, dict[str, Array]]


class Glimpse(NamedTuple):
    """What forward passes show: `sums` add up over rows of a batch, of `largest` one is largest."""

    sums: Mapping[str, Mean] = {}
    largest: Mapping[str, Array] = {}


def sites_of(model: LanguageModel) -> tuple[str, ...]:
    """Those of the sites measured here that the model has."""

    params = jax.eval_shape(model.init, jax.random.key(0))
    tokens_BT = jax.ShapeDtypeStruct((1, 1), jnp.int32)

    def has(site: str) -> bool:
        try:
            jax.eval_shape(functools.partial(model.apply, capture=(site,)), params, tokens_BT)
        except ValueError:  # so the interface says that a site is not there
            return False
        return True

    return tuple(site for site in (RESIDUAL, LARGEST_LOGIT) if has(site))


def look(output: ModelOutput) -> Glimpse:
    """The residual stream below and after every layer, and the largest logits, without gradients.

    Every position counts, of padding too: it is computed like the others.
    """
    captured, hidden_BTD = jax.lax.stop_gradient((output.captured, output.hidden_BTD))
    before_LBTD = captured.get(RESIDUAL, hidden_BTD[:0][None])
    B, T, _ = hidden_BTD.shape

    def squares(x_BTD: Array) -> Array:
        return jnp.sum(jnp.mean(jnp.square(at_least_float32(x_BTD)), axis=-1), axis=(-2, -1))

    below_L = squares(before_LBTD) if RESIDUAL in captured else jnp.zeros(0)
    stream = jnp.append(below_L, squares(hidden_BTD))
    count = jnp.full((), B * T, stream.dtype)
    largest = {
        name: jnp.max(at_least_float32(value), axis=tuple(range(1, value.ndim)))
        for name, value in captured.items()
        if name == LARGEST_LOGIT
    }
    return Glimpse({RESIDUAL: Mean(stream, count)}, largest)


def measure(params: Params, grads: Params, updates: Params, glimpse: Glimpse) -> Measures:
    """Root mean squares by group: each layer, and each parameter of the ends.

    `updates` is what the step subtracts, so its ratio to the parameters holds rate and decay.
    """
    measures: Measures = {}
    for group in params:
        axis = 1 if group == "layers" else 0
        trees = {"param_rms": params, "grad_rms": grads, "update_rms": updates}
        found = {name: _rms(tree[group], axis) for name, tree in trees.items()}
        size = found["param_rms"]
        ratio = found["update_rms"] / jnp.where(size > 0, size, 1.0)
        measures[group] = {**found, "update_ratio": jnp.where(size > 0, ratio, 0.0)}
    stream = glimpse.sums[RESIDUAL]
    stream_rms = jnp.sqrt(stream.total / stream.count)
    measures["embedded"] = {"activation_rms": stream_rms[0]}
    if "layers" in measures:
        measures["layers"] |= {"activation_rms": stream_rms[1:], **glimpse.largest}
    return measures


def named(measures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """`layers/03/grad_rms` and the like, layer by layer, then `ends/w_head/grad_rms`."""
    stacked = measures.get("layers", {})
    lines = {
        (f"layers/{index:02d}", name): value
        for name, values in stacked.items()
        for index, value in enumerate(np.asarray(values))
    }
    layers = {"/".join(key): float(lines[key]) for key in sorted(lines, key=lambda key: key[0])}
    ends = {
        f"ends/{group}/{name}": float(value)
        for group, values in measures.items()
        if group != "layers"
        for name, value in values.items()
    }
    return layers | ends


def _rms(tree: Any, axis: int) -> Array:
    """The root mean square of all numbers of a tree, apart from `axis` leading dimensions."""
    leaves = [at_least_float32(leaf) for leaf in jax.tree.leaves(tree)]
    squares = [jnp.sum(jnp.square(leaf), axis=tuple(range(axis, leaf.ndim))) for leaf in leaves]
    numbers = sum(leaf.size // squared.size for leaf, squared in zip(leaves, squares, strict=True))
    return jnp.sqrt(sum(squares[1:], start=squares[0]) / numbers)
