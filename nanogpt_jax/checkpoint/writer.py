"""The trainer's view of its checkpoints: saves in the background, restores, prunes.

`save` returns as soon as the state is copied to the host; one save is under way at a time. A failed
one is never forgotten: the next `save` or `check` raises it, and so does leaving the context.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import commit, inventory, reader, retention
from nanogpt_jax.checkpoint.environment import observe
from nanogpt_jax.checkpoint.leaves import named_leaves, snapshot
from nanogpt_jax.checkpoint.sidecar import Kind, Sidecar, compose, describe
from nanogpt_jax.interface import ModelShape
from nanogpt_jax.state import TrainState


class Checkpoints:
    """The checkpoints of the run that this process trains; it must hold the lock of the run."""

    def __init__(
        self,
        directory: Path,
        *,
        keep: int,
        milestone_steps: Collection[int],
        model: ModelShape,
        tokenizer_sha256: str,
        exact: bool = False,
    ):
        self._directory = directory.absolute()
        self._keep = keep
        self._milestone_steps = frozenset(milestone_steps)
        self._describe = functools.partial(
            describe,
            model=model,
            tokenizer_sha256=tokenizer_sha256,
            environment=observe(exact),
        )
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoint-writer")
        self._under_way: tuple[int, concurrent.futures.Future[None]] | None = None

    def __enter__(self) -> Checkpoints:
        commit.remove_leftovers(self._directory)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits for the writer; its error is raised with that of the body as its context."""
        self._writer.shutdown()
        self._wait()

    def save(
        self,
        step: int,
        state: TrainState,
        data_state: Mapping[str, Any],
        *,
        kind: Kind,
        tokens_seen: int,
        metrics: Mapping[str, float],
        interrupted: bool = False,
        log_sha256: str = "",
    ) -> None:
        """Saves the state after `step` updates and the data position that yields batch `step`.

        The state may be donated as soon as this returns. A milestone holds the parameters only.
        `metrics["val/loss"]`, where given, must be of this state: it decides which one is best.
        Raises errors.NonFinite before anything is written.
        """
        self._wait()
        _require_finite(step, state)
        sidecar = self._describe(
            step,
            kind,
            interrupted=interrupted,
            tokens_seen=tokens_seen,
            metrics=metrics,
            log_sha256=log_sha256,
        )
        trees = {name: tree for name, tree in _split(state).items() if name in sidecar.items}
        trees = snapshot(trees)
        data = json.loads(json.dumps(data_state)) if sidecar.full else None
        self._under_way = step, self._writer.submit(self._write, sidecar, trees, data)

    def _write(self, sidecar: Sidecar, trees: Any, data: Any) -> None:
        from nanogpt_jax.checkpoint import items

        commit.publish(
            self._directory,
            sidecar.step,
            lambda path: items.write(path, trees, data),
            lambda files: compose(dataclasses.replace(sidecar, files=files)),
        )
        listed = reader.read_sidecars(self._directory)
        # A process that was killed may have been ahead of the full save that this one went on from.
        ahead = [one.step for one in listed if one.step > sidecar.step]
        listed = [one for one in listed if one.step <= sidecar.step]
        gone = retention.prunable(listed, self._keep, self._milestone_steps)
        try:
            for step in [*ahead, *gone]:
                commit.withdraw(self._directory, step)
        except OSError as error:  # what was to be saved is
            logging.warning("%s is not pruned: %s", self._directory, inventory.explain(error))
        commit.remove_leftovers(self._directory)

    def check(self) -> None:
        """Raises the error of a save that has failed meanwhile; waits for nothing."""
        if self._under_way is not None and self._under_way[1].done():
            self._wait()

    def _wait(self) -> None:
        if self._under_way is None:
            return
        (step, save), self._under_way = self._under_way, None
        try:
            save.result()
        except (OSError, ValueError, RuntimeError) as error:  # of the system, TensorStore, JAX
            raise errors.NanogptError(
                f"saving checkpoint {step} of {self._directory} failed{_cause_of(error)} "
                f"({error}): earlier ones are whole; remove the cause, and start again from "
                "the last"
            ) from error

    def restore(self, step: int, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state and the data position of a full checkpoint, placed as `abstract` says.

        The step is one that `newest_full_step` gave. Raises errors.Mismatch if it is of another
        model or optimizer, errors.NoCheckpoint if it is a milestone.
        """
        from nanogpt_jax.checkpoint import items

        path = commit.path_of(self._directory, reader.require_full(self._directory, step))
        trees = items.read(path, _split(abstract))
        return _join(trees), items.read_data(path)


def _cause_of(error: BaseException | None) -> str:
    """The error of the system behind an error, by name and text: ` with ENOSPC, No space ...`."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return f" with {inventory.explain(error)}"
        if told := re.search("os_error_code='([0-9]+)'", str(error)):  # by TensorStore
            return f" with {inventory.explain(OSError(int(told[1]), ''))}"
        error = error.__cause__ or error.__context__
    return ""


def _split(state: TrainState) -> dict[str, Any]:
    rest = {"step": state.step, "key": state.key}
    return {"params": state.params, "opt_state": state.opt_state, "rest": rest}


def _join(trees: Mapping[str, Any]) -> TrainState:
    return TrainState(params=trees["params"], opt_state=trees["opt_state"], **trees["rest"])


def _require_finite(step: int, state: TrainState) -> None:
    finite = _finite({"params": state.params, "opt_state": state.opt_state})
    for name, value in named_leaves(jax.device_get(finite)).items():
        if not value:
            raise errors.NonFinite(
                f"{name} is not finite at step {step}, so nothing was saved: go on from an earlier "
                "checkpoint with a lower learning rate or more clipping"
            )


@jax.jit
def _finite(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jnp.isfinite(leaf).all() if jnp.issubdtype(leaf.dtype, jnp.inexact) else True,
        tree,
    )
