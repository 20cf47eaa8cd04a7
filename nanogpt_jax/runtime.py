"""The JAX backend of this process: what must be known before it starts, and said once it has."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import logging
import os
import sys
import types
from collections import Counter
from pathlib import Path

import jax

from nanogpt_jax.cache import cache_directory
from nanogpt_jax.errors import ConfigError

# The modules by which jax finds CUDA.
_CUDA_PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
# The most simulated devices that are tested: XLA's pool has at least a thread for each.
PINNED_THREADS = 8
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


def keep_programs() -> Path | None:
    """Keeps compiled programs between processes, by the version of jaxlib; says in which folder.

    On accelerators; on CPU where `NANOGPT_KEEP_PROGRAMS=1`, because some CPUs refuse what another
    process of theirs has compiled (jax issue 38445); nowhere where it is 0. A folder that jax was
    given (`JAX_COMPILATION_CACHE_DIR`, `--jax_compilation_cache_dir`) is left as it is.
    Raises ConfigError for another value. To be called before anything is compiled.
    """
    wish = os.environ.get("NANOGPT_KEEP_PROGRAMS", "")
    if wish not in ("", "0", "1"):
        raise ConfigError(f"NANOGPT_KEEP_PROGRAMS={wish!r}: 1 (keep), 0 (do not) or nothing")
    if given := jax.config.values["jax_compilation_cache_dir"]:
        return Path(given)
    if not (wish == "1" or (wish == "" and _expects_accelerator())):
        return None
    # A program that another version has written can end the process that reads it.
    folder = cache_directory() / "programs" / f"jaxlib-{importlib.metadata.version('jaxlib')}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def _expects_accelerator() -> bool:
    """Whether jax will look for an accelerator and may find one; starts no backend.

    Many a command never needs one, and on an accelerator its start takes seconds.
    """
    if platforms := jax.config.values["jax_platforms"]:
        return platforms.split(",")[0] != "cpu"
    find = importlib.util.find_spec
    for_cuda = find("jax_plugins") is not None and any(map(find, _CUDA_PLUGINS))
    return (for_cuda and any(Path("/dev").glob("nvidia[0-9]*"))) or find("libtpu") is not None


def pin_threads() -> None:
    """Fixes the size of XLA's thread pool on CPU, which decides how a sum is divided and rounded.

    XLA takes the larger of the number of simulated devices and `NPROC`, or without it of cores;
    an `NPROC` that is set already stays. Raises ConfigError when a backend has started without.
    """
    if "NPROC" in os.environ:
        return
    count = jax.config.values["jax_num_cpu_devices"]
    try:  # a backend that has started refuses another number
        jax.config.update("jax_num_cpu_devices", count + 1)
    except RuntimeError as error:
        raise ConfigError(
            "parallel.exact=True needs NPROC set before JAX starts, and this process has started "
            f"it without: set NPROC={PINNED_THREADS} in its environment"
        ) from error
    jax.config.update("jax_num_cpu_devices", count)
    os.environ["NPROC"] = str(PINNED_THREADS)


def require_pinned_threads(device_count: int) -> None:
    """Raises ConfigError unless `NPROC` keeps the pool as it is with `device_count` devices."""
    if jax.default_backend() != "cpu":
        return
    threads = os.environ.get("NPROC", "")
    if not (threads.isdecimal() and int(threads) >= device_count):
        raise ConfigError(
            f"parallel.exact=True with NPROC={threads!r} and {device_count} devices: a number of "
            "threads is required, the same for every part of a run and at least the devices; "
            f"set NPROC={max(PINNED_THREADS, device_count)}"
        )


def options_for_once() -> dict[str, int]:
    """jax.jit's `compiler_options` for a program that runs a single time.

    A CPU compiles four times as fast without optimisations: minigpt's first state is made in 0.3
    seconds instead of 1.2.
    """
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}


def describe_programs() -> str:
    """The line of a log that says whether compiled programs are kept; it names no folder."""
    if jax.config.values["jax_compilation_cache_dir"]:
        return "compiled programs are kept for the next start (NANOGPT_KEEP_PROGRAMS=0: not)"
    return "compiled programs are not kept for the next start (NANOGPT_KEEP_PROGRAMS=1: kept)"


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
