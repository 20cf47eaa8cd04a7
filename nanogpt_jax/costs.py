"""Formulas for FLOPs and bytes, once: for perf/mfu, benchmarks and the planner.

XLA's own cost analysis counts the body of a loop once, so it cannot be used for stacked layers.
"""

from __future__ import annotations

import math
from typing import Any

import jax

from nanogpt_jax.interface import Axes, ModelShape
from nanogpt_jax.optim.groups import group

# Dense bfloat16 peak of one chip in FLOP/s, from the vendors' data sheets; prefixes of
# `device_kind`, the longest match wins.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "TPU v3": 123e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}


def parameter_count(params: Any) -> int:
    """Numbers in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def train_flops_per_token(params: Any, axes: Axes, shape: ModelShape, seq_len: int) -> float:
    """FLOPs of forward and backward per token: 6 per weight of a product, and attention.

    An embedding is looked up, not multiplied, so it counts only where it is the head too.
    Attention adds 12 · width · T / 2 per layer: two products of T keys, of which a causal mask
    leaves half, forward once and backward twice (Chowdhery et al. 2022, arXiv:2204.02311, B).
    """
    roles = group(axes).roles
    sizes = jax.tree.map(lambda leaf: math.prod(leaf.shape), params)
    multiplied = jax.tree.map(
        lambda size, role: size if role in ("matrix", "head") else 0, sizes, roles
    )
    weights = sum(jax.tree.leaves(multiplied))
    if "head" not in jax.tree.leaves(roles):  # tied: the embedding is the head
        weights += shape.vocab_size * shape.d_model
    attention = 6 * shape.n_layer * shape.d_model * seq_len
    return 6.0 * weights + attention


def peak_flops(devices: list[jax.Device]) -> float | None:
    """Peak FLOP/s of all devices together; None where the chip is not in the table."""
    kind = devices[0].device_kind
    known = sorted((name for name in PEAK_FLOPS if kind.startswith(name)), key=len)
    return PEAK_FLOPS[known[-1]] * len(devices) if known else None
