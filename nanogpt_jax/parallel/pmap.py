"""One program per device, over equal copies of the state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nanogpt_jax import runtime
from nanogpt_jax.interface import Batch
from nanogpt_jax.parallel.layout import Compiled, Device, OneProcess, Step, abstract_leaf
from nanogpt_jax.state import TrainState


class PmapLayout(OneProcess):
    """One program per device over equal copies of the state; sums are added over devices."""

    def __init__(self, devices: Sequence[Device]):
        self.devices = list(devices)
        self.shards = len(devices)

    def compile_step(self, step: Step, recipe: Any) -> Compiled:
        """The pmapped, donated step."""

        def over_devices(tree: Any, largest: bool = False) -> Any:
            return (jax.lax.pmax if largest else jax.lax.psum)(tree, "data")

        def on_device(state: TrainState, batch: Batch, hyper: Any) -> tuple[TrainState, Any]:
            # Every device draws its own dropout masks; the key of the run stays as it is.
            own = state._replace(key=jax.random.fold_in(state.key, jax.lax.axis_index("data")))
            after, sums = step(recipe, own, batch, hyper, reduce=over_devices)
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
        return jax.tree.map(lambda leaf: abstract_leaf(leaf, here), shapes)

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
