"""Sizes of the mesh that a config asks for, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nanogpt_jax.config import Parallel
from nanogpt_jax.errors import ConfigError


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
    if parallel.exact and (parallel.mode, parallel.fsdp, parallel.tensor) != ("jit", 1, 1):
        found.append(
            f"parallel.exact=True with parallel.mode={parallel.mode!r} {_written(sizes)}: it deals "
            "micro-shards to whole devices; parallel.mode='jit' parallel.fsdp=1 parallel.tensor=1 "
            "are required"
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


def undealt(accumulate_steps: int, devices: int) -> str:
    """Why micro-shards cannot be dealt evenly under `parallel.exact`."""
    return (
        f"parallel.exact=True deals train.accumulate_steps={accumulate_steps} micro-shards to "
        f"{devices} devices, a multiple of {devices} is required: change train.accumulate_steps, "
        "or parallel.data, the devices in use"
    )


def require_one_process(what: str, devices: Sequence[Any]) -> None:
    """Raises ConfigError where `devices` are of more than one process."""
    if (found := len({device.process_index for device in devices})) > 1:
        raise ConfigError(
            f"{what} with {found} processes: it is for the devices of one; parallel.mode=jit and "
            "parallel.exact=false are required, or a single process"
        )


def _sizes(parallel: Parallel) -> list[int]:
    return [parallel.data, parallel.fsdp, parallel.tensor]


def _written(sizes: list[int]) -> str:
    return "parallel.data={} parallel.fsdp={} parallel.tensor={}".format(*sizes)
