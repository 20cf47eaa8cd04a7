"""What decides the bits of a computation beside config, data and state, for a sidecar.

It names no path, user, host or variable but XLA's own.
"""

from __future__ import annotations

import importlib.metadata
import os
from typing import NamedTuple

import jax

LONGEST_FLAGS = 4096


class Environment(NamedTuple):
    """The machine and libraries that a state was computed with."""

    backend: str
    devices: int
    cores: int  # that the process may use
    nproc: int  # of XLA's thread pool; 0: not set
    xla_flags: str
    jax: str
    jaxlib: str
    exact: bool  # parallel.exact


def observe(exact: bool) -> Environment:
    """The environment of this process; an XLA flag that names a path keeps its name alone."""
    nproc = os.environ.get("NPROC", "")
    flags = os.environ.get("XLA_FLAGS", "").split()
    plain = " ".join(flag.split("=")[0] if "/" in flag else flag for flag in flags)
    return Environment(
        backend=jax.default_backend(),
        devices=jax.device_count(),
        cores=len(os.sched_getaffinity(0)),
        nproc=int(nproc) if nproc.isdecimal() else 0,
        xla_flags=plain[:LONGEST_FLAGS],
        jax=jax.__version__,
        jaxlib=importlib.metadata.version("jaxlib"),
        exact=exact,
    )
