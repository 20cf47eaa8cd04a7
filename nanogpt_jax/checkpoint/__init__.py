"""Checkpoints of a run: `Checkpoints` for the one process that trains, functions for its readers.

    <run>/lock
    <run>/checkpoints/<step>/{params, opt_state, rest, data}/ and metadata.json

Nothing outside this package knows Orbax or this layout. One process writes; a state that is spread
over several hosts is not handled.
"""

from nanogpt_jax.checkpoint.commit import list_steps
from nanogpt_jax.checkpoint.digest import digest_params, digest_step
from nanogpt_jax.checkpoint.lock import lock_run
from nanogpt_jax.checkpoint.reader import (
    choose,
    load_learned,
    load_params,
    newest_full_step,
    read_sidecar,
    read_sidecars,
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
    "list_steps",
    "load_learned",
    "load_params",
    "lock_run",
    "milestone_steps",
    "newest_full_step",
    "read_sidecar",
    "read_sidecars",
]
