"""How state and batches lie on devices: one mesh (data, fsdp, tensor), or pmap over data.

The training step itself knows none of this: it is the same function for one device, any mesh and
pmap. The layout whose bits no number of devices changes is exact.py's.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.sharding import AxisType

from nanogpt_jax.config import Parallel
from nanogpt_jax.interface import Axes
from nanogpt_jax.parallel.layout import (
    Compiled,
    Device,
    Layout,
    OneProcess,
    Step,
    abstract_leaf,
)
from nanogpt_jax.parallel.mesh import MeshLayout, split_axes
from nanogpt_jax.parallel.pmap import PmapLayout
from nanogpt_jax.parallel.sizes import mesh_shape, problems, require_one_process, undealt

__all__ = [
    "Compiled",
    "Device",
    "Layout",
    "MeshLayout",
    "OneProcess",
    "PmapLayout",
    "Step",
    "abstract_leaf",
    "make_layout",
    "mesh_shape",
    "problems",
    "require_one_process",
    "split_axes",
    "undealt",
]


def make_layout(parallel: Parallel, axes: Axes, devices: Sequence[Device]) -> Layout:
    """The layout that the config asks for on `devices`; ConfigError when they do not suffice."""
    data, fsdp, tensor = mesh_shape(parallel, len(devices))
    devices = devices[: data * fsdp * tensor]
    if parallel.mode == "pmap":
        require_one_process("parallel.mode=pmap", devices)
        return PmapLayout(devices)
    kinds = (AxisType.Auto,) * 3
    mesh = jax.make_mesh(
        (data, fsdp, tensor), ("data", "fsdp", "tensor"), axis_types=kinds, devices=devices
    )
    return MeshLayout(mesh, axes)
