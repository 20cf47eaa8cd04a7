"""A small real training state, and checkpoints of it."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from nanogpt_jax.checkpoint import Checkpoints
from nanogpt_jax.interface import ModelShape
from nanogpt_jax.state import TrainState

SHAPE = ModelShape("gpt", 65, 2, 2, 2, 8, 16)


@pytest.fixture
def state_of() -> Callable[..., TrainState]:
    """A function that makes the state after a number of updates, all leaves depending on it."""

    def make(step: int, optimizer: optax.GradientTransformation | None = None) -> TrainState:
        params = {
            "wte": jnp.arange(12.0).reshape(4, 3) + step,
            "blocks": {"scale": jnp.full((3,), step + 0.5, jnp.bfloat16)},
        }
        optimizer = optimizer or optax.adamw(1e-3)
        _, opt_state = optimizer.update(params, optimizer.init(params), params)
        return TrainState(jnp.int32(step), params, opt_state, jax.random.key(step))

    return make


@pytest.fixture
def open_run(tmp_path: Path) -> Callable[..., Checkpoints]:
    """A function that opens the checkpoints of the run in `tmp_path`."""

    def make(keep: int = 3, milestone_steps: Collection[int] = ()) -> Checkpoints:
        return Checkpoints(
            tmp_path,
            keep=keep,
            milestone_steps=milestone_steps,
            model=SHAPE,
            tokenizer_sha256="0" * 64,
        )

    return make


@pytest.fixture
def save(state_of: Callable[..., TrainState]) -> Callable[..., None]:
    """A function that saves the state after `step` updates, with defaults for everything else."""

    def save(checkpoints: Checkpoints, step: int, **changes: Any) -> None:
        arguments: dict[str, Any] = {"kind": "periodic", "tokens_seen": 10 * step, "metrics": {}}
        arguments |= changes
        state = arguments.pop("state", None) or state_of(step)
        checkpoints.save(step, state, {"batch": step}, **arguments)

    return save


@pytest.fixture
def bits() -> Callable[[Any], list[tuple[str, Any, bytes]]]:
    """A function that gives path, type and bytes of every leaf: equal lists are equal states."""

    def bits(tree: Any) -> list[tuple[str, Any, bytes]]:
        def numbers(leaf: Any) -> Any:
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            return jax.random.key_data(leaf) if is_key else leaf

        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return [(jax.tree_util.keystr(p), x.dtype, numbers(x).tobytes()) for p, x in leaves]

    return bits
