"""The JAX backend of this process: what must be known before it starts, and said once it has."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
import types
from collections import Counter

import jax

# The modules by which jax finds CUDA.
_CUDA_PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def leave_out_cuda() -> None:
    """Keeps jax from opening CUDA's libraries where `--jax_platforms` leaves CUDA out.

    jax initialises every plugin that it finds, whatever the platforms asked for.
    """
    platforms = (jax.config.values["jax_platforms"] or "cuda").split(",")
    if not {"cuda", "gpu"} & {*platforms}:
        for name in _CUDA_PLUGINS:
            stand_in = types.ModuleType(name)
            vars(stand_in)["initialize"] = lambda: None
            sys.modules.setdefault(name, stand_in)


def keep_freed_memory() -> None:
    """Lets glibc keep what XLA frees after a program, for the next one.

    Else every step's temporary memory goes back to the kernel, which hands it out again page by
    page and zeroed: of a step of 30 ms (4 layers of 128, 42 MB of temporaries) that took 11. What
    is larger than 48 MB is mapped anew as before: an arena ends at 64. Other C libraries are left
    as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 48 * 2**20)


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
