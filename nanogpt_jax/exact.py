"""The same bits on any number of devices: `parallel.exact=true`.

Every micro-shard's gradient is one program on one device, and one program adds them up in order and
updates, so what is computed depends on `train.accumulate_steps` alone and not on how many devices
the micro-shards are dealt to. A single program over all devices does not reach that, even with an
ordered sum: the compiler divides the work within a program by their number.

It promises nothing between machines, versions of jaxlib or sizes of XLA's thread pool
(`runtime.pin_threads`); what a run had is in its sidecars, and `announce` tells what has changed
since.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import SingleDeviceSharding

from nanogpt_jax import runtime
from nanogpt_jax.checkpoint.environment import Environment, observe
from nanogpt_jax.config import Parallel
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.interface import Batch
from nanogpt_jax.parallel import (
    Compiled,
    Device,
    OneProcess,
    Step,
    abstract_leaf,
    mesh_shape,
    require_one_process,
    undealt,
)
from nanogpt_jax.state import TrainState
from nanogpt_jax.step import add_up, shard_gradient

DEVICES_FLAG = "--xla_force_host_platform_device_count"


def make_exact_layout(
    parallel: Parallel, accumulate_steps: int, devices: Sequence[Device]
) -> ExactLayout:
    """Micro-shards dealt to the devices that `parallel.data` asks for.

    Raises ConfigError when they cannot be dealt evenly, or when the thread pool is not pinned.
    """
    count, _, _ = mesh_shape(parallel, len(devices))
    if accumulate_steps % count:
        raise ConfigError(undealt(accumulate_steps, count))
    runtime.require_pinned_threads(len(devices))
    require_one_process("parallel.exact=True", devices)
    return ExactLayout(devices[:count], accumulate_steps)


class ExactLayout(OneProcess):
    """Micro-shards dealt to devices; the state lies on the first, and is copied to the others."""

    def __init__(self, devices: Sequence[Device], micro_shards: int):
        self.devices = list(devices)
        self.shards = 1
        self._micro_shards = micro_shards
        self._home = SingleDeviceSharding(devices[0])

    def compile_step(self, step: Step, recipe: Any) -> Compiled:
        """The two programs, handed over to the devices one after the other."""
        gradient = jax.jit(functools.partial(shard_gradient, recipe))

        @functools.partial(jax.jit, donate_argnums=0)
        def finish(state: TrainState, shards: Any, hyper: Any) -> tuple[TrainState, Any]:
            return step(recipe, state, add_up(shards), hyper)

        def run(state: TrainState, batch: Any, hyper: Any) -> tuple[TrainState, Any]:
            read = state._replace(opt_state=())
            copies = [read, *(jax.device_put(read, device) for device in self.devices[1:])]
            shards = [
                gradient(copies[number % len(copies)], shard, hyper, np.int32(number))
                for number, shard in enumerate(batch)
            ]
            return finish(state, jax.device_put(shards, self._home), hyper)

        return run

    def create(self, create: Callable[..., TrainState], *arguments: Any) -> TrainState:
        """State 0, on the first device."""
        options = runtime.options_for_once()
        compiled = jax.jit(create, out_shardings=self._home, compiler_options=options)
        return compiled(*arguments)

    def abstract(self, create: Callable[..., TrainState], *arguments: Any) -> TrainState:
        """The state as shapes, on the first device."""
        shapes = jax.eval_shape(create, *arguments)
        return jax.tree.map(lambda leaf: abstract_leaf(leaf, self._home), shapes)

    def place(self, state: TrainState) -> TrainState:
        """The state, on the first device."""
        return jax.device_put(state, self._home)

    def plain(self, state: TrainState) -> TrainState:
        """The state itself."""
        return state

    def place_batch(self, batch: Batch) -> list[Batch]:
        """The micro-shards, each on its device; row i belongs to number i mod A."""

        def rows_of(number: int) -> Batch:
            return jax.tree.map(lambda x: x[number :: self._micro_shards], batch)

        dealt = zip(range(self._micro_shards), itertools.cycle(self.devices), strict=False)
        return [jax.device_put(rows_of(number), device) for number, device in dealt]

    def place_evaluation(self, batch: Batch) -> Batch:
        """On the first device, where the parameters lie."""
        return jax.device_put(batch, self._home)


def announce(saved: Environment | None) -> None:
    """Logs what the bits depend on, and warns of what has changed since a state was saved."""
    now = observe(exact=True)
    logging.info("parallel.exact: XLA's thread pool is pinned, NPROC=%d", now.nproc)
    if saved and (changes := describe_changes(saved, now)):
        logging.warning("parallel.exact: bits may differ from an unbroken run's: %s", changes)


def describe_changes(saved: Environment, now: Environment) -> str:
    """What decides bits and is not as it was when a state was saved; empty where all is equal."""
    before, after = _decisive(saved), _decisive(now)
    return ", ".join(
        f"{name} {value!r} -> {after[name]!r}"
        for name, value in before.items()
        if value != after[name]
    )


def _decisive(environment: Environment) -> dict[str, Any]:
    """All but the numbers of devices and cores."""
    values = environment._asdict()
    flags = (flag for flag in environment.xla_flags.split() if DEVICES_FLAG not in flag)
    values["xla_flags"] = " ".join(sorted(flags))
    return {name: value for name, value in values.items() if name not in ("devices", "cores")}
