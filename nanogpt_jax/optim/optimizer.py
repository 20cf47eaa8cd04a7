"""Optimizers as directions: the step multiplies by the learning rate and subtracts.

Each takes the parameter groups and its numbers; every number may be a traced array. Weight decay
is decoupled (Loshchilov and Hutter 2017, arXiv:1711.05101) and spares gains and biases.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Annotated, Any

import jax
import optax
from optax import contrib

from nanogpt_jax.optim import optimizers
from nanogpt_jax.optim.groups import Groups, Sides
from nanogpt_jax.registry import below_one, non_negative, positive

Beta = Annotated[float, below_one]
Decay = Annotated[float, "decoupled weight decay, relative to the rate", non_negative]
Eps = Annotated[float, "added to the root of the second moment", positive]

# Those whose directions `_to_width` scales; muP's rule for rates is that of no other here.
FITTING_WIDTH = ("adam", "adamw", "lion")


def _to_width(
    groups: Groups, direction: optax.GradientTransformation
) -> optax.GradientTransformation:
    """`direction`, of matrices and head times base width over width (muP's rule for Adam).

    Yang et al. 2022, arXiv:2203.03466, table 3: numbers that are all about 1, summed over inputs
    that agree, grow with the width. Decay, which only shrinks, is added afterwards.
    """
    ratio, scaled = groups.width_ratio, groups.mask("matrix", "head")
    if ratio == 1.0:
        return direction

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = direction.update(updates, state, params)
        shrunk = jax.tree.map(lambda own, sums: own * ratio if sums else own, updates, scaled)
        return shrunk, state

    return optax.GradientTransformation(direction.init, update)


def _decayed(groups: Groups, direction: Any, weight_decay: Any) -> Any:
    mask = groups.mask("matrix", "embedding", "head")
    return optax.chain(direction, optax.add_decayed_weights(weight_decay, mask))


@optimizers
def adamw(
    groups: Groups,
    *,
    b1: Annotated[Beta, "decay rate of the first moment"] = 0.9,
    b2: Annotated[Beta, "decay rate of the second moment"] = 0.95,
    eps: Eps = 1e-8,
    weight_decay: Decay = 0.1,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101)."""
    direction = _to_width(groups, optax.scale_by_adam(b1=b1, b2=b2, eps=eps))
    return _decayed(groups, direction, weight_decay)


@optimizers
def adam(
    groups: Groups,
    *,
    b1: Annotated[Beta, "decay rate of the first moment"] = 0.9,
    b2: Annotated[Beta, "decay rate of the second moment"] = 0.999,
    eps: Eps = 1e-8,
) -> optax.GradientTransformation:
    """Adam without weight decay (Kingma and Ba 2014, arXiv:1412.6980)."""
    return _to_width(groups, optax.scale_by_adam(b1=b1, b2=b2, eps=eps))


@optimizers
def sgd(
    groups: Groups,
    *,
    momentum: Annotated[Beta, "decay rate of the velocity"] = 0.9,
    weight_decay: Decay = 0.0,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with heavy-ball momentum."""
    return _decayed(groups, optax.trace(decay=momentum), weight_decay)


@optimizers
def lion(
    groups: Groups,
    *,
    b1: Annotated[Beta, "mixes momentum and gradient in the update"] = 0.9,
    b2: Annotated[Beta, "decay rate of the momentum"] = 0.99,
    weight_decay: Decay = 0.1,
) -> optax.GradientTransformation:
    """Sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675)."""
    return _decayed(groups, _to_width(groups, optax.scale_by_lion(b1=b1, b2=b2)), weight_decay)


@optimizers
def muon(
    groups: Groups,
    *,
    momentum: Annotated[Beta, "decay rate of the matrices' momentum"] = 0.95,
    weight_decay: Decay = 0.0,
    b1: Annotated[Beta, "decay rate of Adam's first moment (the rest)"] = 0.8,
    b2: Annotated[Beta, "decay rate of Adam's second moment (the rest)"] = 0.95,
    eps: Eps = 1e-10,
    embedding_ratio: Annotated[float, "rate of embeddings relative to the matrices'", positive] = (
        10.0
    ),
    head_ratio: Annotated[float, "rate of head and vectors, likewise", positive] = 0.2,
    newton_schulz_steps: Annotated[int, "iterations of the orthogonalisation", positive] = 5,
) -> optax.GradientTransformation:
    """Orthogonalised momentum for matrices, AdamW for the rest (Jordan 2024; arXiv:2502.16982).

    A matrix of each layer is flattened to (inputs, outputs) and orthogonalised on its own; the
    result is scaled by sqrt(max(1, outputs / inputs)).
    """
    # Where there is no matrix, optax.partition leaves an empty node, and so must a tree beside it.
    sides = jax.tree.map(
        lambda role, sides: sides if role == "matrix" else optax.MaskedNode(),
        groups.roles,
        groups.sides,
    )

    def adam_at(ratio: Any) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_adam(b1=b1, b2=b2, eps=eps), optax.scale(ratio))

    matrices = optax.chain(
        contrib.scale_by_muon(
            ns_steps=newton_schulz_steps,
            beta=momentum,
            weight_dimension_numbers=jax.tree.map(
                lambda side: contrib.MuonDimensionNumbers(side.inputs, side.outputs), sides
            ),
        ),
        optax.stateless(lambda updates, _: jax.tree.map(_scale_to_shape, updates, sides)),
    )
    transforms: dict[Hashable, optax.GradientTransformation] = {
        "matrix": matrices,
        "embedding": adam_at(embedding_ratio),
        "head": adam_at(head_ratio),
        "vector": adam_at(head_ratio),
    }
    return _decayed(groups, optax.partition(transforms, groups.roles), weight_decay)


def _scale_to_shape(update: jax.Array, side: Sides) -> jax.Array:
    """sqrt(max(1, outputs / inputs)) times `update`."""
    inputs = math.prod(update.shape[axis] for axis in side.inputs)
    outputs = math.prod(update.shape[axis] for axis in side.outputs)
    return update * math.sqrt(max(1.0, outputs / inputs))
