"""Small training states, how they are saved, and what must be true of them after any fault.

Judged from outside, as a later process would: by the list of steps, their files and their digests.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax import checkpoint
from nanogpt_jax.interface import ModelShape
from nanogpt_jax.state import TrainState

SHAPE = ModelShape("gpt", 65, 2, 4, 2, 16, 16)


class Ended(NamedTuple):
    """How a process that was to save ended: its exit code, or -signal, and its last words."""

    code: int
    message: str


def state_of(step: int) -> TrainState:
    """A state shaped like that of a small model, every number of it depending on `step`."""
    draw = np.random.default_rng(step)
    params = {
        "embedding": draw.normal(size=(65, 16)).astype(np.float32),
        "layers": {
            name: draw.normal(size=(2, 16, width)).astype(np.float32)
            for name, width in {"w_qkv": 32, "w_o": 16, "w_up": 64}.items()
        },
    }
    mean, square = (jax.tree.map(lambda leaf, n=n: leaf * n + step, params) for n in (0.5, 0.25))
    opt_state = {"count": jnp.int32(step), "mean": mean, "square": square}
    return TrainState(jnp.int32(step), params, opt_state, jax.random.key(step))


def save(directory: Path, steps: Sequence[int], keep: int = 1) -> None:
    """Saves those steps as a trainer would, and waits for the last."""
    with checkpoint.Checkpoints(
        directory, keep=keep, milestone_steps=(), model=SHAPE, tokenizer_sha256="0" * 64
    ) as checkpoints:
        for step in steps:
            checkpoints.save(
                step,
                state_of(step),
                {"batch": step},
                kind="periodic",
                tokens_seen=10 * step,
                metrics={},
            )


def digests(directory: Path) -> dict[int, str]:
    """The digest of every listed step; each is verified first."""
    found = {}
    for step in checkpoint.list_steps(directory):
        checkpoint.verify(directory, step)
        found[step] = checkpoint.digest_step(directory, step)["total"]
    return found


def go_on(directory: Path) -> int:
    """Saves the step behind the newest, as the next trainer would; no leftover may be in its way.

    Returns the newest step that there was.
    """
    newest = checkpoint.newest_full_step(directory)
    assert newest is not None, "an earlier save was lost"
    save(directory, [newest + 1])
    assert os.listdir(directory / "checkpoints") == [str(newest + 1)], "leftovers"
    return newest
