"""A number that is not finite ends a run, or is left out, and never gets into a checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import errors
from nanogpt_jax import train as loop
from nanogpt_jax.checkpoint import items, leaves, list_steps
from nanogpt_jax.data.pipeline import digest_batch
from nanogpt_jax.errors import ExitCode, NonFinite
from nanogpt_jax.experiment import assemble
from nanogpt_jax.step import create_state, name_leaf, train_step
from tests.fakes import fake_batch, fake_model, hyper_of, recipe_of
from tests.runs import lines_of, small_plan, small_run, steps_of

MODEL = fake_model()
EVERY_STEP = {"checkpoint.every_steps": 1, "checkpoint.keep": 9, "eval.every_steps": 0}
SKIP = {"train.on_nonfinite": "skip", "train.max_skipped": 2}

Step = Callable[..., Any]


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


# One update.


@functools.cache
def compiled(skip: bool) -> Step:
    return jax.jit(functools.partial(train_step, recipe_of("adamw", MODEL, skip_nonfinite=skip)))


def spoiled_state(leaf: str) -> Any:
    """A state in which one parameter is infinite."""
    state = create_state(recipe_of("adamw", MODEL), hyper_of("adamw"), jax.random.key(0))
    spoiled = state.params["layers"][leaf].at[(0,) * state.params["layers"][leaf].ndim].set(jnp.inf)
    layers = {**state.params["layers"], leaf: spoiled}
    return state._replace(params={**state.params, "layers": layers})


def test_a_step_names_the_first_leaf_of_its_gradient_that_is_not_finite() -> None:
    state, hyper = spoiled_state("w_out"), hyper_of("adamw")
    _, sums = compiled(False)(state, fake_batch(), hyper)
    recipe, number = recipe_of("adamw", MODEL), int(sums.bad_leaf)
    assert name_leaf(recipe, number) == "layers/b_in"
    sound = create_state(recipe, hyper, jax.random.key(0))
    _, sums = compiled(False)(sound, fake_batch(), hyper)
    assert int(sums.bad_leaf) == -1 and np.isfinite(sums.grad_norm)
    names = [name_leaf(recipe, index) for index in range(len(jax.tree.leaves(sound.params)))]
    assert names == sorted(leaves.named_leaves(sound.params))


def test_a_skipped_update_counts_as_a_step_and_changes_nothing_else() -> None:
    hyper = hyper_of("adamw")
    for leaf in ("w_out", "gain"):
        state = spoiled_state(leaf)
        after, sums = compiled(True)(state, fake_batch(), hyper)
        assert not np.isfinite(sums.grad_norm)
        assert bits((after.params, after.opt_state)) == bits((state.params, state.opt_state))
        assert int(after.step) == int(state.step) + 1
        changed, _ = compiled(False)(state, fake_batch(), hyper)
        assert bits(changed.opt_state) != bits(state.opt_state), "which stopping does not do"


def test_an_update_that_is_sound_is_the_same_where_others_are_skipped() -> None:
    hyper = hyper_of("adamw")
    state = create_state(recipe_of("adamw", MODEL), hyper, jax.random.key(0))
    stopping, skipping = (compiled(skip)(state, fake_batch(), hyper)[0] for skip in (False, True))
    assert bits(stopping.params) != bits(state.params)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6),
        (stopping.params, stopping.opt_state),
        (skipping.params, skipping.opt_state),
    )
    texts = [compiled(skip).lower(state, fake_batch(), hyper).as_text() for skip in (False, True)]
    assert texts[0].count("select") < texts[1].count("select")


# A run.


def all_finite(workdir: Path) -> bool:
    """Whether every number of every checkpoint is finite; there are some."""
    found = [
        np.isfinite(leaf).all()
        for step in list_steps(workdir)
        for leaf in items.read_leaves(
            workdir / "checkpoints" / str(step), ("params", "opt_state")
        ).values()
        if np.issubdtype(leaf.dtype, np.inexact)
    ]
    return len(found) > 0 and all(found)


def digest_of(folder: Path, update: int) -> str:
    """The digest of the batch that an update reads."""
    with assemble(small_plan(folder), folder / "no run", []).batches as batches:
        return [digest_batch(next(batches)) for _ in range(update)][-1]


def spoil_result(step: int, item: str) -> Step:
    """A step after which, once, the first leaf of `item` has a number that is not finite."""

    def spoiling(recipe: Any, state: Any, *rest: Any, **more: Any) -> Any:
        after, sums = train_step(recipe, state, *rest, **more)
        # Of params the first leaf, of Adam's state the last: a second moment.
        leaves, structure = jax.tree.flatten(getattr(after, item))
        index = -1 if item == "opt_state" else 0
        leaves[index] = leaves[index] / (after.step != step)
        spoiled = jax.tree.unflatten(structure, leaves)
        return after._replace(**{item: spoiled}), sums

    return spoiling


def spoil_batch(*updates: int) -> Step:
    """A step that reads weights which are not numbers, in these updates."""

    def spoiling(recipe: Any, state: Any, batch: Any, *rest: Any, **more: Any) -> Any:
        bad = jnp.isin(state.step + 1, jnp.array(updates))
        weights = jnp.where(bad, jnp.nan, batch.weights_BT)
        return train_step(recipe, state, batch._replace(weights_BT=weights), *rest, **more)

    return spoiling


@pytest.mark.parametrize(("item", "step"), [("params", 4), ("params", 6), ("opt_state", 6)])
def test_an_update_that_spoils_the_state_just_before_a_save_is_not_saved(
    item: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", spoil_result(step, item))
    with pytest.raises(NonFinite) as told:
        small_run(tmp_path / "run", EVERY_STEP)
    line = str(told.value)
    assert errors.exit_code_of(told.value) == ExitCode.NON_FINITE
    assert line.startswith(f"{item}/") and f"is not finite at step {step}, so nothing" in line
    assert f"its batch is {digest_of(tmp_path, step)}" in line
    assert line.endswith(f"the newest checkpoint is {step - 1}")
    assert steps_of(tmp_path / "run", "train/loss")[-1] == step, "the loss itself was finite"
    assert list_steps(tmp_path / "run") == list(range(1, step)) and all_finite(tmp_path / "run")


def test_a_gradient_that_is_not_finite_ends_the_run_with_step_batch_leaf_and_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", spoil_batch(4))
    with pytest.raises(NonFinite) as told:
        small_run(tmp_path / "run", EVERY_STEP)
    line = str(told.value)
    assert line.startswith("step 4: loss nan, gradient norm nan from ")
    assert f"; its batch is {digest_of(tmp_path, 4)}; go on from" in line
    assert line.endswith("the newest checkpoint is 3")
    assert list_steps(tmp_path / "run") == [1, 2, 3] and all_finite(tmp_path / "run")


def test_a_run_that_skips_goes_on_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", spoil_batch(2, 4, 5))
    changes = {**SKIP, "checkpoint.every_steps": 1, "checkpoint.keep": 9, "log.every_steps": 2}
    small_run(tmp_path / "run", changes)
    lines = [line for line in lines_of(tmp_path / "run") if "train/skipped" in line]
    counted = {line["step"]: line["train/skipped"] for line in lines}
    assert counted == {2: 1.0, 4: 1.0, 6: 1.0}
    assert all(np.isfinite(line["train/loss"]) for line in lines)
    assert list_steps(tmp_path / "run") == [1, 2, 3, 4, 5, 6] and all_finite(tmp_path / "run")


def test_more_updates_in_a_row_than_may_be_skipped_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", spoil_batch(1, 3, 4, 5))
    with pytest.raises(NonFinite, match=r"step 5 after 2 skipped: loss nan") as told:
        small_run(tmp_path / "run", {**SKIP, **EVERY_STEP})
    assert errors.exit_code_of(told.value) == ExitCode.NON_FINITE
    lines = lines_of(tmp_path / "run")
    assert {line["step"]: line["train/skipped"] for line in lines if "train/skipped" in line} == {
        1: 1.0,
        2: 0.0,
        3: 1.0,
        4: 1.0,
    }
    assert list_steps(tmp_path / "run") == [1, 2, 3, 4] and all_finite(tmp_path / "run")
