"""Runs on sources of known entropy: how near a model comes, and that nobody gets below."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from nanogpt_jax import attention, errors
from nanogpt_jax.data.corpus import Corpus, Parts
from nanogpt_jax.data.examples import Windows
from nanogpt_jax.data.sources.synthetic import families
from nanogpt_jax.data.sources.synthetic.process import conditional_entropy
from nanogpt_jax.errors import ExitCode
from nanogpt_jax.experiment import assembly, default_config, resolve
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.train import train

LEAKY = "synthetic:markov?order=1&states=26&concentration=1&length=10000"
SMALL = {
    "train.batch_size": 16,
    "train.seq_len": 32,
    "model.max_seq_len": 32,
    "model.d_model": 32,
    "schedule.warmup_steps": 5,
    "optimizer.learning_rate": 0.03,
    "checkpoint.milestones": 0,
    "log.every_steps": 100,
    "eval.batches": 4,
}
Run = Callable[..., dict[str, float]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that trains and gives the last metrics."""
    # What a leak has tokenized is not for the next test.
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "tokens"))

    def start(source: str, model: str, **changes: Any) -> dict[str, float]:
        values = {"data.source": source, **SMALL, **changes}
        plan = resolve(
            default_config(model=model), [(name, str(value)) for name, value in values.items()]
        )
        train(plan, tmp_path / "run")
        return read_metrics(tmp_path / "run" / "metrics.jsonl")[plan.steps]

    return start


@pytest.mark.slow
def test_the_embedding_model_reaches_what_one_character_tells_of_the_next(run: Run):
    """The process remembers two characters; the model sees one."""
    process = families.markov(order=2, states=8, concentration=0.5, seed=0)
    reachable = conditional_entropy(process, 1)
    changes = {"train.steps": 400, "train.seq_len": 128, "model.max_seq_len": 128}
    changes |= {"eval.every_steps": 0, "eval.batches": 50, "optimizer.name": "adamw"}
    found = run("synthetic:markov?order=2", "embedding", **changes)
    assert found["val/loss"] == pytest.approx(reachable, abs=0.005)
    assert found["val/entropy_nats"] == process.entropy_rate
    expected, error = reachable - process.entropy_rate, found["val/excess_nats_se"]
    assert found["val/excess_nats"] == pytest.approx(expected, abs=4 * error)


def train_on_what_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    open_corpus = assembly.open_corpus

    def overlapping(*arguments: Any) -> Corpus:
        corpus = open_corpus(*arguments)
        assert isinstance(corpus, Corpus)

        def read(val_fraction: float) -> Parts:
            held_out = corpus.read(val_fraction).val
            return Parts(held_out, held_out)

        return dataclasses.replace(corpus, read=read)

    monkeypatch.setattr(assembly, "open_corpus", overlapping)


def predict_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Windows.build

    def unshifted(self: Windows, index_B: Any) -> Any:
        batch = build(self, index_B)
        return batch._replace(targets_BT=batch.inputs_BT)

    monkeypatch.setattr(Windows, "build", unshifted)


def see_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    def allow_all(allowed: Any, start: Any, size: int, end: int) -> Any:
        del allowed, start
        return jnp.ones((1, size, end), bool)

    monkeypatch.setattr(attention, "_allowed_to_chunk", allow_all)


@pytest.mark.parametrize(
    ("leak", "model", "steps"),
    [
        pytest.param(train_on_what_is_held_out, "embedding", 300, marks=pytest.mark.slow),
        (predict_the_input, "embedding", 100),
        pytest.param(see_what_follows, "multi_head", 200, marks=pytest.mark.slow),
    ],
)
def test_a_leak_ends_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, leak: Any, model: str, steps: int
):
    leak(monkeypatch)
    with pytest.raises(errors.Leak, match="below the entropy of the corpus") as told:
        run(LEAKY, model, **{"train.steps": steps, "eval.every_steps": steps // 4})
    assert errors.exit_code_of(told.value) == ExitCode.LEAK == 8


def test_an_honest_run_stays_above(run: Run):
    found = run(LEAKY, "embedding", **{"train.steps": 300, "eval.every_steps": 75})
    assert 0 < found["val/excess_nats"] < 0.2
