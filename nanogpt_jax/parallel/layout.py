"""What every layout of state and batches over devices can do; how, is said by each in its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Sharding

from nanogpt_jax.interface import Batch
from nanogpt_jax.state import TrainState

# (recipe, state, batch, hyper, reduce) -> (state, sums)
Step = Callable[..., tuple[TrainState, Any]]
# (state, placed batch, hyper) -> (state, sums)
Compiled = Callable[[TrainState, Any, Any], tuple[TrainState, Any]]
Device = Any  # jax.Device, which type checkers take for a variable


class Layout(Protocol):
    """Where things are. `plain` is the state without the layout's own extra axes."""

    devices: list[Device]  # those in use
    shards: int  # parts that the rows of a micro-shard are split into

    def compile_step(self, step: Step, recipe: Any) -> Compiled:
        """`step` of `recipe`, compiled; it takes over the state's memory."""
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

    def own_rows(self, rows: int) -> np.ndarray | None:
        """Which of the rows of a batch this process places; None: it is the only one."""
        ...

    def place_batch(self, batch: Batch) -> Any:
        """This process's rows, as host arrays, on the devices, as the compiled step wants them."""
        ...

    def place_evaluation(self, batch: Batch) -> Batch:
        """A whole batch for a program over the plain state's parameters."""
        ...

    def whole(self, tree: Any) -> Any:
        """Arrays as this process alone can read them; all processes come here together.

        The arrays themselves, where all of their devices are of this process.
        """
        ...


class OneProcess:
    """What layouts whose devices are all of this process have in common."""

    def own_rows(self, rows: int) -> np.ndarray | None:
        """None: all."""
        return None

    def whole(self, tree: Any) -> Any:
        """The arrays themselves."""
        return tree


def abstract_leaf(leaf: Any, sharding: Sharding) -> jax.ShapeDtypeStruct:
    """The shape and dtype of `leaf`, to lie as `sharding` says."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
