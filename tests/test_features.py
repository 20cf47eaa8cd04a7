"""The command that shows nanochat's promises: its table, and that a broken promise fails it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from nanogpt_jax import features
from nanogpt_jax.errors import ExitCode, NanogptError, exit_code_of
from nanogpt_jax.features import Evidence
from nanogpt_jax.sampling import Sampling

MILESTONES = {f"M{number}" for number in range(2, 11)}


@pytest.fixture(scope="module")
def evidence() -> list[Evidence]:
    shallow = dataclasses.replace(features.SIZE, n_layer=1)  # compiles in half the time
    return list(features.measure(seed=1, size=shallow))


@pytest.mark.slow
def test_every_milestone_has_evidence_with_a_number_and_passes(evidence: list[Evidence]):
    assert {each.milestone for each in evidence} == MILESTONES
    assert [each for each in evidence if not each.passed] == []
    assert sum(any(letter.isdigit() for letter in each.measured) for each in evidence) >= 20


def test_a_promise_that_is_not_kept_is_named_and_ends_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    lines = [Evidence("M4", "cache", "0.1 apart", False), Evidence("M9", "cap", "14.9", True)]
    monkeypatch.setattr(features, "measure", lambda seed: iter(lines))
    with pytest.raises(NanogptError, match=r"not kept: M4 \(cache\);") as failed:
        features.main()
    assert exit_code_of(failed.value) == ExitCode.FAILED == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed] == [["M4", "FAIL"], ["M9", "PASS"]]
    monkeypatch.setattr(features, "measure", lambda seed: iter(lines[1:]))
    features.main()


def test_what_a_policy_draws_from_is_temperature_then_top_k_then_top_p():
    logits_V = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))
    cases = {
        Sampling(temperature=0.0): [0, 1, 0, 0],
        Sampling(): [0.1, 0.4, 0.2, 0.3],
        Sampling(top_k=2): [0, 4 / 7, 0, 3 / 7],
        Sampling(top_p=0.75): [0, 4 / 9, 2 / 9, 3 / 9],
        Sampling(top_k=2, top_p=0.5): [0, 1, 0, 0],  # of what is left, 4/7 crosses a half
        Sampling(temperature=0.5, top_k=2): [0, 16 / 25, 0, 9 / 25],
    }
    for sampling, expected in cases.items():
        np.testing.assert_allclose(features.probabilities(logits_V, sampling), expected, atol=1e-6)


def test_a_policy_that_only_ever_takes_the_likeliest_is_found_out(monkeypatch: pytest.MonkeyPatch):
    def likeliest(logits_BV, rows, index_B):
        del rows, index_B
        return logits_BV.argmax(-1), logits_BV.max(-1)

    class Flat:
        tokens_BT = np.zeros((1, 1), np.int32)

        def logits(self, tokens_BT):
            del tokens_BT
            return np.linspace(0, 1, 256, dtype=np.float32)[None, None]

    monkeypatch.setattr(features, "draw", likeliest)
    subject: Any = Flat()
    found = {each.promise: each.passed for each in features.policies(subject)}
    assert found.pop("greedy") and not any(found.values())
