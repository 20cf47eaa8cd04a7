"""Memory, waiting and conditions: what is measured is what is said."""

from __future__ import annotations

import json

import jax.numpy as jnp
import pytest

from nanogpt_jax import attention
from nanogpt_jax.bench import conditions, feeding, growth
from nanogpt_jax.interface import Array


def attend_all_at_once(q_BHTC: Array, k_BHTC: Array, v_BHTC: Array) -> Array:
    return attention.attend(q_BHTC, k_BHTC, v_BHTC, attention.causal_mask(q_BHTC.shape[2]))


def test_all_scores_at_once_are_seen_to_grow_with_the_square(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "attend_causally", attend_all_at_once)
    found = growth.attention_memory(lengths=(512, 1024), heads=2, channels=16)()
    scores_mib = 2 * 1024**2 * 4 / 2**20
    assert found["mib_at_1024"] >= scores_mib
    assert found["exponent_at_1024"] == pytest.approx(2.0, abs=0.1)


def test_what_needs_a_row_a_query_is_seen_to_grow_with_the_length(monkeypatch: pytest.MonkeyPatch):
    def attend_to_itself(q_BHTC: Array, k_BHTC: Array, v_BHTC: Array) -> Array:
        scores_BHT1 = jnp.sum(q_BHTC * k_BHTC, axis=-1, keepdims=True)
        return jnp.cumsum(scores_BHT1 * v_BHTC, axis=2)

    monkeypatch.setattr(attention, "attend_causally", attend_to_itself)
    found = growth.attention_memory(lengths=(512, 1024), heads=2, channels=16)()
    assert found["exponent_at_1024"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("fed", [True, False])
def test_a_loop_waits_for_a_part_of_its_time(fed: bool):
    work = feeding.train(config="4x128", steps=3, fed=fed)
    assert 0 < work()["waited_share"] < 1


@pytest.mark.parametrize("config, tokens", [("minigpt", 32 * 128), ("4x128", 12 * 64)])
def test_the_configs_of_the_data_suite_have_the_tokens_that_it_counts(config: str, tokens: int):
    plan = feeding.plan_of(config)
    assert plan.tokens_per_step == tokens and plan.model.shape(65).n_layer == 4


def test_the_conditions_say_on_what_with_what_and_when_and_no_path():
    found = conditions.describe({"rounds": 7}, ["pytest", "no-such-package"])
    assert found.keys() == {"machine", "versions", "commit", "date", "arguments"}
    assert found["versions"].keys() >= {"python", "jax", "jaxlib", "pytest"}
    assert "no-such-package" not in found["versions"]
    assert found["machine"]["cores"] > 0 and found["machine"]["memory_bytes"] > 2**28
    assert found["machine"]["cpu"] and found["machine"]["system"]
    assert "/" not in json.dumps([found["machine"], found["commit"]])


@pytest.mark.parametrize("commit, told", [("abc", "abc"), ("abc+", "abc-dirty"), (None, "unknown")])
def test_a_commit_is_told_with_what_differs_from_it(
    commit: str | None, told: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(conditions.record, "git_commit", lambda: commit)
    assert conditions.describe({})["commit"] == told
