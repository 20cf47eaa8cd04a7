"""What contracts are held against: a new file in nanogpt_jax/models/ is a case by itself.

The parameters are noise: matrices that start at zero would hide every fault behind them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import models as model_files
from nanogpt_jax.interface import KVCache, LanguageModel
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
