"""One value of every registered model, however its layers run and in whatever dtype."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.layers import split_layers
from tests.contracts.cases import (
    CASES,
    DEEP,
    LAYERED,
    B,
    Case,
    T,
    V,
    continue_from,
    logits_of,
    over,
    quick_jit,
)


@over(DEEP)
def test_unroll_changes_the_program_and_neither_tree_nor_values(case: Case):
    rolled = case.build(unroll=1)
    lowered = [quick_jit(m.apply).lower(case.params, case.tokens_BT) for m in (rolled, case.model)]
    texts = [program.as_text() for program in lowered]
    assert "while" in texts[0] and "while" not in texts[1]
    assert rolled.axes == case.model.axes
    assert jax.tree.structure(jax.eval_shape(rolled.init, jax.random.key(0))) == (
        jax.tree.structure(case.fresh)
    )
    rolled_logits = quick_jit(functools.partial(logits_of, rolled))(case.params, case.tokens_BT)
    expected = case.logits(case.params, case.tokens_BT)
    np.testing.assert_allclose(rolled_logits, expected, atol=1e-5)


@over(LAYERED)
def test_stacked_layers_equal_a_tuple_of_layers(case: Case):
    n_layer = case.config.shape(V).n_layer
    apart = {**case.params, "layers": split_layers(case.params["layers"], n_layer)}
    programs = [jax.make_jaxpr(case.model.apply)(p, case.tokens_BT) for p in (case.params, apart)]
    assert ["scan[" in str(program) for program in programs] == [True, False]
    stacked, looped = (case.observe(p, case.tokens_BT) for p in (case.params, apart))
    assert jax.tree.structure(stacked) == jax.tree.structure(looped)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), stacked, looped)


@over(CASES)
def test_float64_stays_float64(case: Case):
    with jax.enable_x64(True):
        model = case.build(dtype=jnp.float64)
        fresh = jax.eval_shape(model.init, jax.random.key(0))
        assert {leaf.dtype.name for leaf in jax.tree.leaves(fresh)} == {"float32"}
        params = jax.tree.map(lambda leaf: np.asarray(leaf, "float64"), case.params)
        full = quick_jit(functools.partial(logits_of, model))(params, case.tokens_BT)
        step = quick_jit(functools.partial(continue_from, model))
        assert model.empty_cache is not None
        logits, _ = step(params, case.tokens_BT, model.empty_cache(B, T))
        assert full.dtype == logits.dtype == jnp.float64
        # 1e-12 is beyond float32: one narrow product on the way would show.
        np.testing.assert_allclose(logits, full, atol=1e-12)
    narrow = case.logits(case.params, case.tokens_BT)
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, full, atol=1e-4)


@over(CASES)
def test_bfloat16_activations_give_float32_logits_near_the_exact_ones(case: Case):
    model = case.build(dtype=jnp.bfloat16)
    output = jax.eval_shape(model.apply, case.params, case.tokens_BT)
    assert output.hidden_BTD.dtype == jnp.bfloat16
    logits = quick_jit(functools.partial(logits_of, model))(case.params, case.tokens_BT)
    exact = np.asarray(case.logits(case.params, case.tokens_BT))
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - exact).max() < 0.05 * np.abs(exact).max() + 0.05
