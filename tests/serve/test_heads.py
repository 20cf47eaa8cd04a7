"""What heads look at and experts answer, as text whose size is known before."""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from nanogpt_jax import inspection
from nanogpt_jax.models import build, models
from nanogpt_jax.serve.heads import Heads

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5]


@functools.cache
def run_of(name: str, **fields: Any) -> Any:
    """A run as far as heads are concerned: an untrained model."""
    config = models[name](**{"d_model": 8, "max_seq_len": 32, **fields})
    model = build(name, config, 11)
    return SimpleNamespace(
        model=model,
        params=jax.jit(model.init)(jax.random.key(0)),
        shape=config.shape(11),
        plan=SimpleNamespace(model=config),
    )


@pytest.mark.slow
def test_a_mixture_of_experts_tells_its_routing_layer_by_layer():
    run = run_of("moe", n_layer=2, n_head=2, n_expert=4, n_active=2)
    heads = Heads(run, TOKENS)
    text = heads.write()
    assert len(text) <= heads.most_bytes
    found = json.loads(b"{" + text + b"}")
    assert [(each["layer"], each["head"]) for each in found["attention"]] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    gates_LTE = inspection.routing(run.model, run.params, TOKENS).gates_LTE
    assert [each["layer"] for each in found["routing"]] == [0, 1]
    for each, gates_TE in zip(found["routing"], gates_LTE, strict=True):
        assert np.shape(each["experts"]) == np.shape(each["weights"]) == (len(TOKENS), 2)
        for experts, weights, gates_E in zip(
            each["experts"], each["weights"], gates_TE, strict=True
        ):
            assert {*experts} == {*np.flatnonzero(gates_E)}
            np.testing.assert_allclose(weights, gates_E[experts], atol=1e-6)
            assert weights == sorted(weights, reverse=True)


def test_a_model_without_attention_has_no_heads():
    heads = Heads(run_of("embedding"), TOKENS)
    assert heads.write() == b'"attention":[]' and heads.most_bytes < 200


@pytest.mark.parametrize("length", [1, 15, 16, 32])
def test_the_size_is_bounded_and_the_bound_is_no_fantasy(length: int):
    run = run_of("gpt", n_layer=2, n_head=2)
    heads = Heads(run, [1] * length)
    found = len(heads.write())
    assert found <= heads.most_bytes
    assert length < 15 or heads.most_bytes < 3 * found  # half of a matrix is 0.0


def test_a_model_is_searched_for_what_it_lacks_once_and_not_for_every_request():
    run = run_of("gpt", n_layer=2, n_head=2)
    traced: list[object] = []

    def apply(params: Any, *inputs: Any, **options: Any) -> Any:
        traced.append(options["capture"])
        return run.model.apply(params, *inputs, **options)

    noted: Any = SimpleNamespace(**{**vars(run), "model": run.model._replace(apply=apply)})
    for _ in range(3):
        assert Heads(noted, TOKENS).most_bytes
    assert traced == [("attention",), ("gates",)]
