"""Checkpoints of a run: `Checkpoints` for the one process that trains, functions for its readers.

    <run>/lock
    <run>/checkpoints/<step>/{params, opt_state, rest, data}/ and metadata.json
    <run>/checkpoints/<step>.bad/: what was damaged, as it was found

Nothing outside this package knows Orbax or this layout. One process writes, of several the first,
and what is split over them is whole before it comes here (parallel/).
"""

from nanogpt_jax.checkpoint.commit import list_steps, set_aside
from nanogpt_jax.checkpoint.digest import digest_params, digest_step
from nanogpt_jax.checkpoint.lock import is_locked, lock_run, require_free
from nanogpt_jax.checkpoint.reader import (
    choose,
    load_learned,
    load_params,
    newest_full_step,
    read_sidecar,
    read_sidecars,
    verify,
)
from nanogpt_jax.checkpoint.retention import milestone_steps
from nanogpt_jax.checkpoint.sidecar import Kind, Sidecar
from nanogpt_jax.checkpoint.writer import Checkpoints

__all__ = [
    "Checkpoints",
    "Kind",
    "Sidecar",
    "choose",
    "digest_params",
    "digest_step",
    "is_locked",
    "list_steps",
    "load_learned",
    "load_params",
    "lock_run",
    "milestone_steps",
    "newest_full_step",
    "read_sidecar",
    "read_sidecars",
    "require_free",
    "set_aside",
    "verify",
]
