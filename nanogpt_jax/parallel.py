"""How state and batches lie on devices: one mesh (data, fsdp, tensor), or pmap over data.

A parameter's logical axis names meet `RULES`; a dimension that does not divide stays whole, with
one warning. Optimizer state follows the parameter it belongs to. The training step itself knows
none of this: it is the same function for one device, any mesh and pmap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from nanogpt_jax import runtime
from nanogpt_jax.config import Parallel
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.functional import BATCH
from nanogpt_jax.interface import Axes, Batch
from nanogpt_jax.state import TrainState

RULES = {
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
}

# (state, batch, hyper, reduce) -> (state, sums)
Step = Callable[..., tuple[TrainState, Any]]
Device = Any  # jax.Device, which type checkers take for a variable


class Layout(Protocol):
    """Where things are. `plain` is the state without the layout's own extra axes."""

    devices: list[Device]  # those in use
    shards: int  # parts that the rows of a batch are split into

    def compile_step(self, step: Step) -> Step:
        """The compiled step (state, batch, hyper); it takes over the state's memory."""
        ...

    def create(self, create: Callable[..., TrainState], *arguments: Any) -> TrainState:
        """State 0, made where it will lie."""
        ...

    def abstract(self, create: Callable[..., TrainState], *arguments: Any) -> TrainState:
        """Shapes, dtypes and shardings of the plain state: what a restore should fill."""
        ...

    def place(self, state: TrainState) -> TrainState:
        """A plain state, laid out for the step."""
        ...

    def plain(self, state: TrainState) -> TrainState:
        """The state as checkpoints, evaluation and sampling want it."""
        ...

    def place_batch(self, batch: Batch) -> Batch:
        """A batch of host arrays, on the devices."""
        ...

    def place_evaluation(self, batch: Batch) -> Batch:
        """A batch for a program over the plain state's parameters."""
        ...


def make_layout(parallel: Parallel, axes: Axes, devices: Sequence[Device]) -> Layout:
    """The layout that the config asks for on `devices`; ConfigError when they do not suffice."""
    data, fsdp, tensor = mesh_shape(parallel, len(devices))
    devices = devices[: data * fsdp * tensor]
    if parallel.mode == "pmap":
        return PmapLayout(devices)
    kinds = (AxisType.Auto,) * 3
    mesh = jax.make_mesh(
        (data, fsdp, tensor), ("data", "fsdp", "tensor"), axis_types=kinds, devices=devices
    )
    return MeshLayout(mesh, axes)


def problems(parallel: Parallel) -> list[str]:
    """What no number of devices can fulfil."""
    sizes, found = _sizes(parallel), []
    if any(size == 0 or size < -1 for size in sizes) or sizes.count(-1) > 1:
        found.append(
            f"{_written(sizes)}: sizes are at least 1, and at most one is -1 (the devices left)"
        )
    if parallel.mode == "pmap" and (parallel.fsdp, parallel.tensor) != (1, 1):
        found.append(
            f"{_written(sizes)}: parallel.mode='pmap' splits the batch only, so parallel.fsdp and "
            "parallel.tensor must be 1; use parallel.mode='jit'"
        )
    return found


def mesh_shape(parallel: Parallel, device_count: int) -> tuple[int, int, int]:
    """Sizes of the mesh axes with -1 filled in; ConfigError when `device_count` does not do."""
    if found := problems(parallel):
        raise ConfigError(found)
    sizes = _sizes(parallel)
    wanted = _written(sizes)
    if -1 in sizes:
        given = -math.prod(sizes)
        if device_count > given and device_count % given:
            raise ConfigError(
                f"{wanted}: {device_count} devices found, not a multiple of {given}; change the "
                "sizes, or say instead of -1 how many to use"
            )
        sizes[sizes.index(-1)] = max(device_count // given, 1)
    needed = math.prod(sizes)
    if needed > device_count:
        raise ConfigError(
            f"{wanted} needs {needed} devices, {device_count} found; lower it, or simulate with "
            f"--jax_platforms=cpu --jax_num_cpu_devices={needed}"
        )
    return sizes[0], sizes[1], sizes[2]


def _sizes(parallel: Parallel) -> list[int]:
    return [parallel.data, parallel.fsdp, parallel.tensor]


def _written(sizes: list[int]) -> str:
    return "parallel.data={} parallel.fsdp={} parallel.tensor={}".format(*sizes)


class MeshLayout:
    """One program over a mesh; a mesh of one device leaves no trace in it."""

    def __init__(self, mesh: Mesh, axes: Axes):
        self.mesh = mesh
        self.axes = axes
        self.devices = list(mesh.devices.flat)
        self.shards = mesh.shape["data"] * mesh.shape["fsdp"]
        self._rows = NamedSharding(mesh, PartitionSpec(BATCH))

    def compile_step(self, step: Step) -> Step:
        """One jitted, donated step, which leaves the state laid out as it found it."""
        if self.mesh.size == 1:
            return jax.jit(step, donate_argnums=0)

        def on_mesh(state: TrainState, batch: Batch, hyper: Any) -> tuple[TrainState, Any]:
            with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):  # functional.constrain
                after, sums = step(state, batch, hyper)
            # Otherwise the compiler may choose another layout, and the next step compiles again.
            return jax.lax.with_sharding_constraint(after, self._shardings(after)), sums

        return jax.jit(on_mesh, donate_argnums=0)

    def create(self, create: Callable[..., TrainState], *arguments: Any) -> TrainState:
        """State 0, every leaf made on the device that keeps it."""
        shardings = self._shardings(jax.eval_shape(create, *arguments), warn=True)
        options = runtime.options_for_once()
        return jax.jit(create, out_shardings=shardings, compiler_options=options)(*arguments)

    def abstract(self, create: Callable[..., TrainState], *arguments: Any) -> TrainState:
        """The state as shapes with shardings."""
        shapes = jax.eval_shape(create, *arguments)
        return jax.tree.map(_with_sharding, shapes, self._shardings(shapes))

    def place(self, state: TrainState) -> TrainState:
        """The state itself: a restore has put it in place."""
        return state

    def plain(self, state: TrainState) -> TrainState:
        """The state itself."""
        return state

    def place_batch(self, batch: Batch) -> Batch:
        """Rows split over data and fsdp; to a single device the step's own call is the quicker way.

        Of a step of 19 ms on CPU it saves 0.35.
        """
        return batch if self.mesh.size == 1 else self.place_evaluation(batch)

    def place_evaluation(self, batch: Batch) -> Batch:
        """Rows split over data and fsdp, to stay there."""
        return jax.device_put(batch, self._rows)

    def _shardings(self, shapes: TrainState, warn: bool = False) -> TrainState:
        whole: list[str] = []

        everywhere: Any = NamedSharding(self.mesh, PartitionSpec())
        known: dict[Any, tuple[tuple[int, ...], Any]] = {}

        def of_param(path: Any, leaf: Any, names: tuple[str, ...]) -> NamedSharding:
            sharding = NamedSharding(self.mesh, self._spec(path, leaf.shape, names, whole))
            known[path] = leaf.shape, sharding
            return sharding

        def of_opt_state(path: Any, leaf: Any) -> NamedSharding:
            # A moment's path ends with the path of the parameter that it belongs to.
            for start in range(len(path)):
                shape, sharding = known.get(path[start:], (None, everywhere))
                if shape == leaf.shape:
                    return sharding
            return everywhere

        params = jax.tree.map_with_path(of_param, shapes.params, self.axes)
        opt_state = jax.tree.map_with_path(of_opt_state, shapes.opt_state)
        if whole and warn:
            logging.warning("not split over the mesh, for they do not divide: %s", "; ".join(whole))
        return TrainState(everywhere, params, opt_state, everywhere)

    def _spec(
        self, path: Any, shape: tuple[int, ...], names: tuple[str, ...], whole: list[str]
    ) -> PartitionSpec:
        used: list[str | None] = []
        for name, size in zip(names, shape, strict=True):
            axis = RULES.get(name)
            if axis is None or axis in used or self.mesh.shape[axis] == 1:
                used.append(None)
            elif size % self.mesh.shape[axis]:
                where = jax.tree_util.keystr(path)
                whole.append(f"{where} {name}={size} by {axis}={self.mesh.shape[axis]}")
                used.append(None)
            else:
                used.append(axis)
        return PartitionSpec(*used)


def _with_sharding(leaf: Any, sharding: Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


class PmapLayout:
    """One program per device over equal copies of the state; sums are added over devices."""

    def __init__(self, devices: Sequence[Device]):
        self.devices = list(devices)
        self.shards = len(devices)

    def compile_step(self, step: Step) -> Step:
        """The pmapped, donated step."""

        def over_devices(tree: Any, largest: bool = False) -> Any:
            return (jax.lax.pmax if largest else jax.lax.psum)(tree, "data")

        def on_device(state: TrainState, batch: Batch, hyper: Any) -> tuple[TrainState, Any]:
            # Every device draws its own dropout masks; the key of the run stays as it is.
            own = state._replace(key=jax.random.fold_in(state.key, jax.lax.axis_index("data")))
            after, sums = step(own, batch, hyper, reduce=over_devices)
            return after._replace(key=state.key), sums

        return jax.pmap(
            on_device,
            axis_name="data",
            in_axes=(0, 0, None),
            out_axes=(0, None),
            donate_argnums=0,
            devices=self.devices,
        )

    def create(self, create: Callable[..., TrainState], *arguments: Any) -> TrainState:
        """State 0, copied to every device."""
        options = runtime.options_for_once()
        return self.place(jax.jit(create, compiler_options=options)(*arguments))

    def abstract(self, create: Callable[..., TrainState], *arguments: Any) -> TrainState:
        """The state of one device as shapes."""
        here = jax.sharding.SingleDeviceSharding(self.devices[0])
        shapes = jax.eval_shape(create, *arguments)
        return jax.tree.map(lambda leaf: _with_sharding(leaf, here), shapes)

    def place(self, state: TrainState) -> TrainState:
        """A copy of the state for every device, on a leading axis."""
        mesh = Mesh(np.array(self.devices), ("data",))
        rows = NamedSharding(mesh, PartitionSpec("data"))

        def copy(leaf: Any) -> Any:
            return jnp.broadcast_to(leaf, (self.shards, *leaf.shape))

        return jax.jit(lambda state: jax.tree.map(copy, state), out_shardings=rows)(
            jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        )

    def plain(self, state: TrainState) -> TrainState:
        """The first device's copy."""
        return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], state)

    def place_batch(self, batch: Batch) -> Batch:
        """Rows split over a leading device axis, in order."""
        mesh = Mesh(np.array(self.devices), ("data",))

        def split(x: np.ndarray) -> np.ndarray:
            return x.reshape(self.shards, -1, *x.shape[1:])

        return jax.device_put(
            jax.tree.map(split, batch), NamedSharding(mesh, PartitionSpec("data"))
        )

    def place_evaluation(self, batch: Batch) -> Batch:
        """On the first device, where the plain state lies."""
        return jax.device_put(batch, self.devices[0])
