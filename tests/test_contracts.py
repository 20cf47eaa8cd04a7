"""What every registered model keeps, whatever it is: a new file in models/ is tested by itself.

The parameters are noise: matrices that start at zero would hide every fault behind them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import layers
from nanogpt_jax import models as model_files
from nanogpt_jax.interface import Edit, KVCache, LanguageModel
from nanogpt_jax.layers import split_layers
from nanogpt_jax.models import models

B, T, V = 2, 8, 17
SMALL = {"n_layer": 2, "n_head": 4, "d_model": 16, "d_head": 4, "max_seq_len": T}
# The far end of gpt's switches: everything that its defaults leave out.
CLASSIC = {
    "n_kv_head": 2,
    "norm": "layer",
    "norm_gain": True,
    "positions": "learned",
    "qk_norm": "off",
    "activation": "swiglu",
    "bias": True,
    "tied_head": True,
    "head_bias": True,
    "norm_position": "post",
    "init": "gpt2",
}
REGISTERED: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in models]
CASES = [*REGISTERED, ("gpt", CLASSIC)]
LAYERED = [case for case in REGISTERED if models[case[0]]().shape(V).n_layer > 0]
DEEP = [case for case in REGISTERED if models[case[0]]().shape(V).n_layer > 1]
# He's rule draws rustgpt's head wide: it starts a nat above ln V (tests/models/test_rustgpt.py).
NARROW = [case for case in REGISTERED if case[0] != "rustgpt"]
# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
# To compile every contract of every model takes a minute; .ci/run takes it.
QUICK = {"embedding", "gpt"}
SITES = ("residual", "attention", "head_out", "mlp_out", "router", "gates")


@dataclasses.dataclass(frozen=True)
class Case:
    """A small model with perturbed parameters, and its programs, each compiled once."""

    config: Any
    build: Callable[..., LanguageModel]
    model: LanguageModel
    tokens_BT: Any

    @functools.cached_property
    def init(self) -> Callable[..., Any]:
        """(key) -> params, as a run starts with."""
        return quick_jit(self.model.init)

    @functools.cached_property
    def fresh(self) -> Any:
        """The parameters of key 0."""
        return self.init(jax.random.key(0))

    @functools.cached_property
    def params(self) -> Any:
        """Parameters of which none is zero, nor a norm's gain one."""
        shapes, tree = jax.tree.flatten(jax.eval_shape(self.model.init, jax.random.key(0)))
        noise = np.random.default_rng(0)
        drawn = [noise.normal(scale=0.3, size=leaf.shape).astype("float32") for leaf in shapes]
        return jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in drawn])

    @functools.cached_property
    def sites(self) -> tuple[str, ...]:
        """The sites that this model has."""
        return tuple(site for site in SITES if self._has(site))

    def _has(self, site: str) -> bool:
        apply = functools.partial(self.model.apply, capture=(site,))
        try:
            return site in jax.eval_shape(apply, self.params, self.tokens_BT).captured
        except ValueError:
            return False

    @functools.cached_property
    def logits(self) -> Callable[..., Any]:
        """(params, tokens_BT) -> logits_BTV."""
        return quick_jit(lambda params, tokens_BT: logits_of(self.model, params, tokens_BT))

    @functools.cached_property
    def step(self) -> Callable[..., Any]:
        """(params, tokens_BT, cache) -> logits_BTV, cache; compiled for every length of tokens."""
        return quick_jit(functools.partial(continue_from, self.model))

    @functools.cached_property
    def observe(self) -> Callable[..., Any]:
        """(params, tokens_BT) -> output with every site captured."""
        return quick_jit(functools.partial(self.model.apply, capture=self.sites))

    @functools.cached_property
    def edit(self) -> Callable[..., Any]:
        """`edited`, compiled."""
        return quick_jit(self.edited)

    def edited(self, params: Any, tokens_BT: Any, edits: Any) -> Any:
        """The hidden state under interventions."""
        return self.model.apply(params, tokens_BT, edits=edits).hidden_BTD

    @functools.cached_property
    def influence(self) -> Callable[..., Any]:
        """(params, tokens_T, segments_BT) -> how far position t feels the token at s, as TS."""
        (where,) = (
            path
            for path, axes in jax.tree_util.tree_leaves_with_path(self.model.axes, is_leaf=is_names)
            if axes == ("vocab", "embed")
        )

        def influence(params: Any, tokens_T: Any, segments_BT: Any) -> Any:
            def scores(table_VD: Any) -> Any:
                changed = jax.tree_util.tree_map_with_path(
                    lambda path, leaf: table_VD if path == where else leaf, params
                )
                output = self.model.apply(changed, tokens_T[None], segments_BT=segments_BT)
                # Uneven weights: the sum over a normed vector would have no gradient.
                return jnp.sum(output.hidden_BTD[0] * jnp.arange(1.0, 1 + SMALL["d_model"]), -1)

            table_VD = dict(jax.tree_util.tree_leaves_with_path(params))[where]
            return jnp.max(jnp.abs(jax.jacrev(scores)(table_VD)[:, tokens_T]), axis=-1)

        return quick_jit(influence)


def make_edit(replace: Any, value: Any) -> Edit:
    """An edit of host arrays."""
    return Edit(jnp.asarray(replace), jnp.asarray(value))


def is_names(leaf: object) -> bool:
    """A tuple is one leaf of `axes`."""
    return isinstance(leaf, tuple)


def logits_of(model: LanguageModel, params: Any, tokens_BT: Any, **keywords: Any) -> Any:
    """Logits of a whole pass."""
    return model.unembed(params, model.apply(params, tokens_BT, **keywords).hidden_BTD)


def continue_from(model: LanguageModel, params: Any, tokens_BT: Any, cache: KVCache) -> Any:
    """Logits of tokens that follow a cache, and the cache after them."""
    output = model.apply(params, tokens_BT, cache=cache)
    return model.unembed(params, output.hidden_BTD), output.cache


@functools.cache
def make_case(name: str, switches: tuple[tuple[str, Any], ...]) -> Case:
    """The case, built once however many tests look at it."""
    known = models.fields(name)
    sizes = {field: size for field, size in SMALL.items() if field in known}
    config = models[name](**sizes, **dict(switches))
    build = functools.partial(model_files.build, name, config, V)
    model = build()
    tokens_BT = np.random.default_rng(1).integers(V, size=(B, T)).astype("int32")
    return Case(config, build, model, tokens_BT)


def over(cases: list[tuple[str, dict[str, Any]]]) -> Any:
    """One test a case, named after its model; those but of QUICK are slow."""
    found = []
    for name, switches in cases:
        id_ = name if not switches else f"{name}-classic"
        marks = () if id_ in QUICK else pytest.mark.slow
        found.append(pytest.param((name, switches), id=id_, marks=marks))
    return pytest.mark.parametrize("case", found, indirect=True)


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    name, switches = request.param
    return make_case(name, tuple(switches.items()))


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


@over(CASES)
def test_no_position_feels_a_later_token_by_gradient(case: Case):
    tokens_T = np.random.default_rng(2).permutation(V)[:T]
    # One document, so that this and the test of documents share a program.
    felt_TS = np.asarray(case.influence(case.params, tokens_T, np.zeros((1, T), "int32")))
    assert np.isfinite(felt_TS).all()
    later = np.triu(np.ones((T, T), bool), 1)
    assert (felt_TS[later] == 0).all()
    earlier = np.tril(np.ones((T, T), bool), -1 if case.config.shape(V).n_layer else 0)
    if case.config.shape(V).n_layer:
        assert (felt_TS[earlier] > 0).all()
    assert (np.diag(felt_TS) > 0).all()


@over(CASES)
def test_a_prefix_gives_the_same_logits_whatever_follows(case: Case):
    before = np.asarray(case.logits(case.params, case.tokens_BT))
    for length in range(1, T):
        changed = case.tokens_BT.copy()
        changed[:, length:] = (changed[:, length:] + 1) % V
        after = np.asarray(case.logits(case.params, changed))
        assert np.array_equal(before[:, :length], after[:, :length])
        assert not np.array_equal(before[:, length:], after[:, length:])


@over(CASES)
def test_a_cache_gives_the_full_pass_at_every_position_in_any_split(case: Case):
    full = np.asarray(case.logits(case.params, case.tokens_BT))
    assert case.model.empty_cache is not None
    for split in splits(T):
        cache, start = case.model.empty_cache(B, T), 0
        for piece in split:
            tokens = case.tokens_BT[:, start : start + piece]
            logits, cache = case.step(case.params, tokens, cache)
            np.testing.assert_allclose(logits, full[:, start : start + piece], atol=2e-5)
            start += piece
        assert cache.length_B.tolist() == [T] * B


def splits(length: int) -> list[tuple[int, ...]]:
    """All ways to cut `length` into pieces of 1 and 3: every position in two programs."""
    if length <= 0:
        return [()] if length == 0 else []
    return [(piece, *rest) for piece in (1, 3) for rest in splits(length - piece)]


@over(CASES)
def test_rows_of_one_cache_may_stand_at_different_positions(case: Case):
    full = np.asarray(case.logits(case.params, case.tokens_BT))
    assert case.model.empty_cache is not None
    _, cache = case.step(case.params, case.tokens_BT[:, :3], case.model.empty_cache(B, T))
    lengths = np.array([1, 3], np.int32)  # the first row forgets two tokens of its padding
    cache = cache._replace(length_B=jnp.asarray(lengths))
    for _ in range(4):
        tokens = np.take_along_axis(case.tokens_BT, lengths[:, None], 1)
        logits, cache = case.step(case.params, tokens, cache)
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(logits[row, 0], full[row, length], atol=2e-5)
        lengths = lengths + 1


@over(CASES)
def test_a_cache_knows_no_documents_and_nothing_outgrows_the_context(case: Case):
    assert case.model.empty_cache is not None
    cache = case.model.empty_cache(B, T)
    with pytest.raises(ValueError, match="one document a row"):
        case.model.apply(case.params, case.tokens_BT, cache=cache, segments_BT=case.tokens_BT)
    with pytest.raises(ValueError, match=f"9 positions.*max_seq_len={T}"):
        case.model.apply(case.params, np.zeros((1, T + 1), "int32"))
    with pytest.raises(ValueError, match=f"9 positions.*max_seq_len={T}"):
        case.model.empty_cache(1, T + 1)


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


@over(CASES)
def test_nothing_crosses_from_one_document_of_a_row_into_another(case: Case):
    segments_T = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    tokens_T = np.random.default_rng(3).permutation(V)[:T]
    felt_TS = np.asarray(case.influence(case.params, tokens_T, segments_T[None].astype("int32")))
    allowed_TS = (segments_T[:, None] == segments_T) & np.tri(T, dtype=bool)
    assert (felt_TS[~allowed_TS] == 0).all()
    if case.config.shape(V).n_layer:
        assert (felt_TS[allowed_TS] > 0).all()


@over(CASES)
def test_a_document_reads_the_same_wherever_it_stands_in_a_row(case: Case):
    segments_T = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    row_T = np.asarray(case.tokens_BT[0])
    program = quick_jit(functools.partial(logits_of, case.model))
    one = program(case.params, row_T[None], segments_BT=np.zeros((1, T), "int32"))[0]
    whole = case.logits(case.params, case.tokens_BT)[0]
    np.testing.assert_allclose(one, whole, atol=1e-5)
    packed = program(case.params, row_T[None], segments_BT=segments_T[None].astype("int32"))[0]
    for segment in (0, 1, 2):
        inside = segments_T == segment
        alone = np.zeros_like(case.tokens_BT)
        alone[0, : inside.sum()] = row_T[inside]
        expected = case.logits(case.params, alone)[0, : inside.sum()]
        np.testing.assert_allclose(packed[inside], expected, atol=1e-5)
    if case.config.shape(V).n_layer:
        assert not np.allclose(packed[3:], whole[3:], atol=1e-3)


def trees_equal(a: Any, b: Any) -> bool:
    """Bit for bit."""
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))
