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

# Peak rate of one chip's memory in bytes a second, found likewise. Google's are from its own pages;
# NVIDIA's data sheets were at hand only as others quote them, beside the width and rate of the bus.
PEAK_BANDWIDTH = {
    # 40 GB: 5120 bits at 2 x 1215 MHz (techpowerup.com/gpu-specs/a100-sxm4-40-gb.c3506)
    "NVIDIA A100": 1555e9,
    # thundercompute.com/blog/nvidia-a100-specs-full-guide
    "NVIDIA A100 80GB PCIe": 1935e9,
    # 5120 bits at 2 x 1593 MHz (gist.github.com/gengwg/3520df2ebf8872e5ee4818367e3a4122)
    "NVIDIA A100-SXM4-80GB": 2039e9,
    # 5120 bits at 5.23 Gb/s (anandtech.com/show/18780), for SXM
    "NVIDIA H100": 3350e9,
    # 6144 bits at about 5.1 Gb/s (anandtech.com/show/18780), for one of its two cards
    "NVIDIA H100 NVL": 3900e9,
    # "greater than 2,000" GB/s: NVIDIA's product brief PB-11133-001, November 2022
    "NVIDIA H100 PCIe": 2000e9,
    # 6144 bits at 6.2 Gb/s (geektopia.es on NVIDIA's announcement of 13 November 2023)
    "NVIDIA H200": 4800e9,
    # 192 bits at 12.5 Gb/s (fpsbench.com/compare/gpu/nvidia-l4-vs-nvidia-tesla-m40)
    "NVIDIA L4": 300e9,
    # 384 bits at 18 Gb/s (itcreations.com/nvidia-gpu/nvidia-l40s-gpu-accelerator), and of the L40S
    "NVIDIA L40": 864e9,
    # docs.cloud.google.com/tpu/docs/v3
    "TPU v3": 900e9,
    # docs.cloud.google.com/tpu/docs/v4
    "TPU v4": 1200e9,
    # docs.cloud.google.com/tpu/docs/v5e
    "TPU v5 lite": 819e9,
    "TPU v5e": 819e9,
    # docs.cloud.google.com/tpu/docs/v5p
    "TPU v5": 2765e9,
    # docs.cloud.google.com/tpu/docs/v6e
    "TPU v6 lite": 1638e9,
    "TPU v6e": 1638e9,
}

# Memory of one chip in bytes; Google's are from the pages above, NVIDIA's the smallest of the name.
MEMORY_BYTES = {
    "NVIDIA A100": 40e9,
    "NVIDIA H100": 80e9,
    "NVIDIA H100 PCIe": 80e9,
    "NVIDIA H200": 141e9,
    "NVIDIA L4": 24e9,
    "NVIDIA L40": 48e9,
    "NVIDIA L40S": 48e9,
    "TPU v3": 32e9,
    "TPU v4": 32e9,
    "TPU v5 lite": 16e9,
    "TPU v5e": 16e9,
    "TPU v5": 95e9,
    "TPU v6 lite": 32e9,
    "TPU v6e": 32e9,
}

QUERIES = ("embed", "heads", "head")  # axes of the projection that no attention is without
Device = Any  # jax.Device, which type checkers take for a variable


def parameter_count(params: Any) -> int:
    """Numbers in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def train_flops_per_token(params: Any, axes: Axes, shape: ModelShape, seq_len: int) -> float:
    """FLOPs of forward and backward per token: 6 per weight of a product, and attention.

    An embedding is looked up, not multiplied, so it counts only where it is the head too.
    """
    roles = jax.tree.leaves(group(axes).roles)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(params)]
    multiplied = sum(
        size for size, role in zip(sizes, roles, strict=True) if role in ("matrix", "head")
    )
    if "head" not in roles:  # tied: the embedding is the head
        multiplied += shape.vocab_size * shape.d_model
    return 6.0 * multiplied + attention_flops_per_token(params, axes, shape, seq_len)


def attention_flops_per_token(params: Any, axes: Axes, shape: ModelShape, seq_len: int) -> float:
    """12 · H C · T / 2 per layer: two products of T keys, of which a causal mask leaves half.

    Forward once and backward twice (Chowdhery et al. 2022, arXiv:2204.02311, B).
    """
    # H C of all layers together: what their queries' projections put out.
    names = jax.tree.leaves(axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(params)]
    queried = sum(size for size, own in zip(sizes, names, strict=True) if own[-3:] == QUERIES)
    return 6.0 * queried / shape.d_model * seq_len


def orthogonalisation_flops(params: Any, axes: Axes, iterations: int) -> float:
    """Of one update of Muon: in each iteration A = X Xᵀ, A², and A X, with X m x n and m <= n."""
    groups = group(axes)
    leaves = jax.tree.leaves(params)
    roles, sides = jax.tree.leaves(groups.roles), jax.tree.leaves(groups.sides)
    total = 0.0
    for leaf, role, side in zip(leaves, roles, sides, strict=True):
        if role == "matrix":
            inputs, outputs = (
                math.prod(leaf.shape[axis] for axis in axes) for axes in (side.inputs, side.outputs)
            )
            m, n = sorted((inputs, outputs))
            count = math.prod(leaf.shape) // (m * n)
            total += count * iterations * (4 * m * m * n + 2 * m**3)
    return total


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
