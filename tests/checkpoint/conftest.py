"""A small real training state, and checkpoints of it."""

import functools
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from absl import logging

from nanogpt_jax.checkpoint import Checkpoints
from nanogpt_jax.interface import ModelShape
from nanogpt_jax.state import TrainState

SHAPE = ModelShape("gpt", 65, 2, 2, 2, 8, 16)
GOOD, BAD = 2, 4  # the steps of `original`, and what becomes of them


def make_state(step: int, optimizer: optax.GradientTransformation | None = None) -> TrainState:
    """The state after a number of updates; all leaves depend on it."""
    params = {
        "wte": jnp.arange(12.0).reshape(4, 3) + step,
        "blocks": {"scale": jnp.full((3,), step + 0.5, jnp.bfloat16)},
    }
    optimizer = optimizer or optax.adamw(1e-3)
    _, opt_state = optimizer.update(params, optimizer.init(params), params)
    return TrainState(jnp.int32(step), params, opt_state, jax.random.key(step))


def open_checkpoints(
    run: Path, keep: int = 3, milestone_steps: Collection[int] = ()
) -> Checkpoints:
    """The checkpoints of a run directory."""
    return Checkpoints(
        run, keep=keep, milestone_steps=milestone_steps, model=SHAPE, tokenizer_sha256="0" * 64
    )


def save_state(checkpoints: Checkpoints, step: int, **changes: Any) -> None:
    """Saves the state after `step` updates, with defaults for everything else."""
    arguments: dict[str, Any] = {"kind": "periodic", "tokens_seen": 10 * step, "metrics": {}}
    arguments |= changes
    state = arguments.pop("state", None) or make_state(step)
    checkpoints.save(step, state, {"batch": step}, **arguments)


@pytest.fixture
def state_of() -> Callable[..., TrainState]:
    """`make_state`."""
    return make_state


@pytest.fixture
def open_run(tmp_path: Path) -> Callable[..., Checkpoints]:
    """`open_checkpoints` of the run in `tmp_path`."""
    return functools.partial(open_checkpoints, tmp_path)


@pytest.fixture
def save() -> Callable[..., None]:
    """`save_state`."""
    return save_state


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


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of two full saves, which nobody may touch."""
    run = tmp_path_factory.mktemp("original")
    with open_checkpoints(run) as checkpoints:
        for step in (GOOD, BAD):
            save_state(checkpoints, step, metrics={"val/loss": 9.0 - step})
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    yield run
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings that are logged."""
    told: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: told.append(text % values))
    return told
