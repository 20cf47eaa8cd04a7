"""What every registered model is made of: shapes, axes, and parameters as a run starts with."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax.models import models
from tests.contracts.cases import (
    CASES,
    DEEP,
    NARROW,
    REGISTERED,
    SMALL,
    B,
    Case,
    T,
    V,
    is_names,
    over,
)


def test_every_file_in_models_is_a_registered_model():
    assert {"embedding", "single_head", "multi_head", "gpt", "moe"} <= set(models)
    for name in models:
        assert models[name].__module__ == f"nanogpt_jax.models.{name}"
        assert models[name]().shape(V).name == name


@over(CASES)
def test_shapes_are_what_the_shape_says(case: Case):
    shape = case.config.shape(V)
    output = jax.eval_shape(case.model.apply, case.params, case.tokens_BT)
    assert output.hidden_BTD.shape == (B, T, shape.d_model)
    assert (output.cache, output.captured) == (None, {})
    assert all(part.shape == () for mean in output.auxiliary.values() for part in mean)
    assert case.logits(case.params, case.tokens_BT).shape == (B, T, V)
    for leading in ((), (3,), (2, 3, 5)):
        hidden = jnp.zeros((*leading, shape.d_model))
        assert jax.eval_shape(case.model.unembed, case.params, hidden).shape == (*leading, V)


@over(CASES)
def test_every_parameter_is_float32_and_names_each_of_its_axes(case: Case):
    names = jax.tree.leaves(case.model.axes, is_leaf=is_names)
    fresh = jax.eval_shape(case.model.init, jax.random.key(0))
    leaves = jax.tree.leaves(fresh)
    assert jax.tree.structure(fresh) == jax.tree.structure(case.model.axes, is_leaf=is_names)
    assert [len(name) for name in names] == [leaf.ndim for leaf in leaves]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    for path, axes in jax.tree_util.tree_leaves_with_path(case.model.axes, is_leaf=is_names):
        assert ("layers" in axes) == (jax.tree_util.keystr(path[:1]) == "['layers']")
    sizes = {"layers": case.config.shape(V).n_layer, "vocab": V}
    sizes |= {"embed": SMALL["d_model"], "heads": case.config.shape(V).n_head}
    for name, leaf in zip(names, leaves, strict=True):
        for axis, size in zip(name, leaf.shape, strict=True):
            assert size == sizes.get(axis, size)


@over(CASES)
def test_building_a_model_computes_nothing(case: Case):
    with jax.transfer_guard("disallow"), jax.log_compiles(False):
        before = len(jax.live_arrays())
        case.build()
        assert len(jax.live_arrays()) == before


@over(REGISTERED)
def test_two_keys_give_two_models_and_one_key_gives_one(case: Case):
    again, other = case.init(jax.random.key(0)), case.init(jax.random.key(1))
    assert trees_equal(case.fresh, again)
    assert not trees_equal(case.fresh, other)


@over(DEEP)
def test_every_layer_draws_its_own_parameters(case: Case):
    drawn = 0
    for leaf in jax.tree.leaves(case.fresh["layers"]):
        if np.unique(np.asarray(leaf)).size > 2:  # zeros and ones are not drawn
            drawn += 1
            assert not np.array_equal(leaf[0], leaf[1])
    assert drawn


@over(NARROW)
def test_the_loss_of_a_new_model_is_near_ln_v(case: Case):
    log_p = jax.nn.log_softmax(case.logits(case.fresh, case.tokens_BT))
    chosen = np.take_along_axis(np.asarray(log_p), np.roll(case.tokens_BT, -1)[..., None], -1)
    assert -chosen.mean() == pytest.approx(math.log(V), abs=0.1)
    moved = case.logits(case.params, case.tokens_BT)
    assert np.isfinite(moved).all() and np.ptp(moved) > 0.1


def trees_equal(a: Any, b: Any) -> bool:
    """Bit for bit."""
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))
