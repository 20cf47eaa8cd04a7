"""Looking into every registered model changes nothing, and an edit does what it says."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import layers
from nanogpt_jax.interface import Edit
from nanogpt_jax.layers import split_layers
from tests.contracts.cases import (
    CASES,
    DEEP,
    LAYERED,
    SMALL,
    B,
    Case,
    T,
    V,
    logits_of,
    over,
    quick_jit,
)


def make_edit(replace: Any, value: Any) -> Edit:
    """An edit of host arrays."""
    return Edit(jnp.asarray(replace), jnp.asarray(value))


@over(LAYERED)
def test_captured_attention_sums_to_one_and_sees_nothing_later(case: Case):
    shape = case.config.shape(V)
    captured = case.observe(case.params, case.tokens_BT).captured
    assert {"residual", "attention", "head_out"} <= set(captured) == set(case.sites)
    p_LBHTS = np.asarray(captured["attention"])
    assert p_LBHTS.shape == (shape.n_layer, B, shape.n_head, T, T)
    np.testing.assert_allclose(p_LBHTS.sum(-1), 1.0, atol=1e-6)
    assert (np.triu(p_LBHTS, 1) == 0).all()
    assert (p_LBHTS[..., np.tri(T, dtype=bool)] > 0).all()


@over(LAYERED)
def test_observing_changes_no_value(case: Case):
    seen = case.observe(case.params, case.tokens_BT)
    logits = case.model.unembed(case.params, seen.hidden_BTD)
    expected = case.logits(case.params, case.tokens_BT)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@over(DEEP)
def test_the_residual_before_a_layer_is_the_hidden_state_of_the_layers_below_it(case: Case):
    n_layer = case.config.shape(V).n_layer
    residual = case.observe(case.params, case.tokens_BT).captured["residual"]
    assert residual.shape == (n_layer, B, T, SMALL["d_model"])
    for depth in range(1, n_layer):
        lower = split_layers(case.params["layers"], n_layer)[:depth]
        below = quick_jit(functools.partial(logits_of, case.model))(
            {**case.params, "layers": lower}, case.tokens_BT
        )
        lens = case.model.unembed(case.params, residual[depth])
        np.testing.assert_allclose(lens, below, atol=1e-5)
        assert not np.allclose(below, case.logits(case.params, case.tokens_BT), atol=1e-2)


@over(LAYERED)
def test_a_residual_patched_from_another_run_gives_that_run(case: Case):
    other_BT = (case.tokens_BT + 5) % V
    here, there = (case.observe(case.params, tokens) for tokens in (case.tokens_BT, other_BT))
    assert not np.allclose(here.hidden_BTD, there.hidden_BTD, atol=1e-2)
    edits = no_edits(here.captured, but="attention")
    last = edits["residual"].replace.at[-1].set(True)
    edits["residual"] = Edit(last, there.captured["residual"])
    patched = case.edit(case.params, case.tokens_BT, edits)
    np.testing.assert_allclose(patched, there.hidden_BTD, atol=1e-5)


@over(LAYERED)
def test_an_edit_that_replaces_nothing_changes_no_bit(case: Case):
    # Operation by operation: compiled, another program is another fusion and another last bit.
    layers = split_layers(case.params["layers"], case.config.shape(V).n_layer)
    run = functools.partial(case.model.apply, {**case.params, "layers": layers}, case.tokens_BT)
    seen = run(capture=case.sites)
    idle = run(edits=no_edits(seen.captured, but="attention")).hidden_BTD
    assert np.isfinite(idle).all()
    assert np.array_equal(idle, run().hidden_BTD)
    # Editing attention takes the plain path, so its twin is the run that captures it.
    assert np.array_equal(run(edits=no_edits(seen.captured)).hidden_BTD, seen.hidden_BTD)
    own = {site: make_edit(np.ones(x.shape, bool), x) for site, x in seen.captured.items()}
    assert np.array_equal(run(edits=own).hidden_BTD, seen.hidden_BTD)


@over(LAYERED)
def test_ablating_a_head_is_zeroing_its_slice_of_the_output_matrix(case: Case):
    shape = case.config.shape(V)
    plain = np.asarray(quick_jit(case.model.apply)(case.params, case.tokens_BT).hidden_BTD)
    captured = case.observe(case.params, case.tokens_BT).captured
    ablated = ablate_every_head(case, captured)
    assert ablated.shape == (shape.n_layer, shape.n_head, *plain.shape)
    for layer in range(shape.n_layer):
        for head in range(shape.n_head):
            attention = case.params["layers"]["attention"]
            zeroed = attention | without_head(attention, layer, head)
            params = {**case.params, "layers": {**case.params["layers"], "attention": zeroed}}
            expected = case.edit(params, case.tokens_BT, no_edits(captured, but="attention"))
            np.testing.assert_allclose(ablated[layer, head], expected, atol=1e-5)
            assert not np.allclose(expected, plain, atol=1e-4)


def without_head(attention: Any, layer: int, head: int) -> dict[str, Any]:
    """The parameters of an attention that say nothing of one head any more."""
    if "w_o" in attention:
        return {"w_o": attention["w_o"].at[layer, head].set(0.0)}
    return {"w_v": attention["w_v"].at[layer, :, head].set(0.0)}  # what a head reads, it gives


def ablate_every_head(case: Case, captured: Any) -> Any:
    """hidden_LHBTD of one run that leaves out each head in turn."""
    shape = case.config.shape(V)
    size = (shape.n_layer, shape.n_head)
    which = np.eye(math.prod(size), dtype=bool).reshape(*size, *size)[..., None, :, None, None]
    edits = no_edits(captured, but="attention")

    def run(replace: Any) -> Any:
        ablation = make_edit(replace, jnp.zeros_like(captured["head_out"]))
        return case.edited(case.params, case.tokens_BT, edits | {"head_out": ablation})

    return quick_jit(jax.vmap(jax.vmap(run)))(which)


def no_edits(captured: Any, but: str | None = None) -> dict[str, Edit]:
    """An edit at every site, each of which replaces nothing, by NaN."""
    return {
        site: make_edit(np.zeros(value.shape, bool), np.full(value.shape, np.nan, "float32"))
        for site, value in captured.items()
        if site != but
    }


@over(LAYERED)
def test_without_capture_and_edits_the_program_is_the_one_without_sites(
    case: Case, monkeypatch: pytest.MonkeyPatch
):
    def text(**keywords: Any) -> str:
        # A new function each time: jit remembers what it has traced.
        program = jax.jit(lambda params, tokens: case.build().apply(params, tokens, **keywords))
        return program.lower(case.params, case.tokens_BT).as_text()

    off, empty, on = text(), text(capture=(), edits={}), text(capture=case.sites)
    head_out = jax.eval_shape(case.observe, case.params, case.tokens_BT).captured["head_out"]
    edited = text(
        edits={"head_out": make_edit(jnp.ones(head_out.shape, bool), jnp.zeros(head_out.shape))}
    )
    visited = []

    def pass_through(_: layers.Sites, name: str, value: Any) -> Any:
        visited.append(name)
        return value

    monkeypatch.setattr(layers.Sites, "__call__", pass_through)
    monkeypatch.setattr(layers.Sites, "wants", lambda *_: False)
    without = text()
    assert "residual" in visited
    assert off == empty == without
    assert len({off, on, edited}) == 3


@over(CASES)
def test_a_site_that_is_not_there_is_refused_by_name(case: Case):
    n_layer = case.config.shape(V).n_layer
    shape = (n_layer, 1, 1, 1)
    message = "did you mean 'attention'" if n_layer else "no sites"
    edits = {"atention": make_edit(np.ones(shape, bool), jnp.ones(shape))}
    for keywords in ({"capture": ("atention",)}, {"edits": edits}):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda k=keywords: case.model.apply(case.params, case.tokens_BT, **k))
