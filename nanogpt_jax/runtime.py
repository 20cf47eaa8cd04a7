"""The JAX backend of this process: what must be known before it starts, and said once it has."""

from __future__ import annotations

import logging
from collections import Counter

import jax


def describe_devices() -> str:
    """The first line of a log: backend, devices, and how to choose others; starts the backend."""
    # So that it is the first: jax tells at length which backends it has looked for in vain.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
    kinds = Counter(device.device_kind for device in jax.devices())
    devices = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    return (
        f"jax {jax.__version__} on {jax.default_backend()}: {devices} "
        "(choose with --jax_platforms=cpu|cuda|tpu, simulate with --jax_num_cpu_devices=N)"
    )
