"""Formulas for FLOPs and bytes, once: for perf/mfu, benchmarks and the planner.

XLA's own cost analysis counts the body of a loop once, so it cannot be used for stacked layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from nanogpt_jax.interface import Axes, ModelShape
from nanogpt_jax.optim.groups import group

# Dense bfloat16 peak of one chip in FLOP/s, from the vendors' data sheets; prefixes of
# `device_kind`, the longest match wins.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L40S": 362e12,
    "TPU v3": 123e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,  # JAX's name of v5p
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}

# Peak rate of one chip's memory in bytes a second, from the same data sheets, found likewise.
PEAK_BANDWIDTH = {
    "NVIDIA A100": 1555e9,  # with 40 GB
    "NVIDIA A100 80GB PCIe": 1935e9,
    "NVIDIA A100-SXM4-80GB": 2039e9,
    "NVIDIA H100": 3350e9,
    "NVIDIA H100 NVL": 3900e9,
    "NVIDIA H100 PCIe": 2000e9,
    "NVIDIA H200": 4800e9,
    "NVIDIA L4": 300e9,
    "NVIDIA L40": 864e9,
    "TPU v3": 900e9,
    "TPU v4": 1228e9,
    "TPU v5 lite": 819e9,
    "TPU v5e": 819e9,
    "TPU v5": 2765e9,
    "TPU v6 lite": 1638e9,
    "TPU v6e": 1638e9,
}

QUERIES = ("embed", "heads", "head")  # axes of the projection that no attention is without
Device = Any  # jax.Device, which type checkers take for a variable


def parameter_count(params: Any) -> int:
    """Numbers in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def train_flops_per_token(params: Any, axes: Axes, shape: ModelShape, seq_len: int) -> float:
    """FLOPs of forward and backward per token: 6 per weight of a product, and attention.

    An embedding is looked up, not multiplied, so it counts only where it is the head too.
    Attention adds 12 · H C · T / 2 per layer: two products of T keys, of which a causal mask
    leaves half, forward once and backward twice (Chowdhery et al. 2022, arXiv:2204.02311, B).
    """
    roles = jax.tree.leaves(group(axes).roles)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(params)]
    multiplied = sum(
        size for size, role in zip(sizes, roles, strict=True) if role in ("matrix", "head")
    )
    if "head" not in roles:  # tied: the embedding is the head
        multiplied += shape.vocab_size * shape.d_model
    # H C of all layers together: what their queries' projections put out.
    names = jax.tree.leaves(axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    queried = sum(size for size, own in zip(sizes, names, strict=True) if own[-3:] == QUERIES)
    return 6.0 * multiplied + 6.0 * queried / shape.d_model * seq_len


def peak_flops(devices: Sequence[Device]) -> float | None:
    """Peak FLOP/s of all devices together; None where the chip is not in the table."""
    return _peak(PEAK_FLOPS, devices)


def peak_bandwidth(devices: Sequence[Device]) -> float | None:
    """Peak bytes a second of all memories together; None where the chip is not in the table."""
    return _peak(PEAK_BANDWIDTH, devices)


def _peak(table: Mapping[str, float], devices: Sequence[Device]) -> float | None:
    kind = devices[0].device_kind
    known = max((name for name in table if kind.startswith(name)), key=len, default=None)
    return None if known is None else table[known] * len(devices)


def decode_bytes_per_token(params: Any, axes: Axes, cache: Any) -> int:
    """Bytes that one token of one row reads: every weight, and the whole cache, once.

    A table that is looked up gives one row, which counts as nothing; where it is the head too, it
    is multiplied.
    """
    roles = jax.tree.leaves(group(axes).roles)
    tied = "head" not in roles
    names = jax.tree.leaves(axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    read = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize
        for leaf, role, own in zip(jax.tree.leaves(params), roles, names, strict=True)
        if role != "embedding" or (tied and own[0] == "vocab")
    )
    return read + sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(cache))
