"""Schedules: the factor of the learning rate at a step, between `min_ratio` and 1.

`step` counts finished updates, so the first update sees step 0. Steps and numbers may be traced.
Past `total_steps` every schedule stays at `min_ratio`, so a run may be prolonged.
"""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp

from nanogpt_jax.interface import Array
from nanogpt_jax.optim import schedules
from nanogpt_jax.registry import fraction, non_negative

Number = Array | float
Warmup = Annotated[int, "steps of linear warm-up from near 0", non_negative]
Minimum = Annotated[float, "smallest factor of the rate, kept after total_steps", fraction]


@schedules
def constant(step: Number, total_steps: Number, *, min_ratio: Minimum = 1.0) -> Array:
    """1 until total_steps, then min_ratio."""
    return jnp.where(step < total_steps, 1.0, min_ratio)


@schedules
def linear(step: Number, total_steps: Number, *, min_ratio: Minimum = 0.0) -> Array:
    """From 1 down to min_ratio, without warm-up."""
    return 1.0 - (1.0 - min_ratio) * _progress(step, 0.0, total_steps)


@schedules
def warmup_cosine(
    step: Number, total_steps: Number, *, warmup_steps: Warmup = 100, min_ratio: Minimum = 0.1
) -> Array:
    """Half a cosine from 1 to min_ratio (Loshchilov and Hutter 2016, arXiv:1608.03983)."""
    turned = jnp.pi * _progress(step, warmup_steps, total_steps)
    return _warmed(step, total_steps, warmup_steps, min_ratio, (1.0 - jnp.cos(turned)) / 2.0)


@schedules
def warmup_linear(
    step: Number, total_steps: Number, *, warmup_steps: Warmup = 100, min_ratio: Minimum = 0.0
) -> Array:
    """A straight line from 1 to min_ratio."""
    fallen = _progress(step, warmup_steps, total_steps)
    return _warmed(step, total_steps, warmup_steps, min_ratio, fallen)


@schedules
def warmup_stable_decay(
    step: Number,
    total_steps: Number,
    *,
    warmup_steps: Warmup = 100,
    decay_fraction: Annotated[float, "last share of the run, in which the rate falls", fraction] = (
        0.4
    ),
    min_ratio: Minimum = 0.0,
) -> Array:
    """1, and for the last part a line to min_ratio (Hu et al. 2024, arXiv:2404.06395)."""
    start = jnp.maximum(warmup_steps, total_steps * (1.0 - decay_fraction))
    fallen = _progress(step, start, total_steps)
    return _warmed(step, total_steps, warmup_steps, min_ratio, fallen)


def _progress(step: Number, start: Number, end: Number) -> Array:
    """0 until `start`, 1 from `end` on, linear between."""
    return jnp.clip((step - start) / jnp.maximum(end - start, 1.0), 0.0, 1.0)


def _warmed(
    step: Number, total_steps: Number, warmup_steps: Number, min_ratio: Number, fallen: Array
) -> Array:
    """A factor that has gone the share `fallen` of its way from 1 to min_ratio, warmed up.

    The warm-up is (step + 1) / warmup_steps, at most 1, so that the first update already moves.
    """
    warmth = jnp.minimum(1.0, (step + 1.0) / jnp.maximum(warmup_steps, 1.0))
    factor = warmth * (1.0 - (1.0 - min_ratio) * fallen)
    return jnp.where(step < total_steps, factor, min_ratio)
