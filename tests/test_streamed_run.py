"""Runs on corpora that are not kept, or on several at once: they resume as if unbroken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax.checkpoint import digest_step
from nanogpt_jax.data.corpus import AnyCorpus, Corpus, Documents, Mixture, Parts, Stream
from nanogpt_jax.experiment import assembly
from tests.runs import lines_of, small_run

FULL = {"checkpoint.every_steps": 3, "eval.every_steps": 6, "schedule.total_steps": 6}


def streamed() -> Stream:
    def documents(position: Any) -> Iterator[tuple[str, Any]]:
        for number in range(position or 0, 70):
            yield f"document {number}{' and so on' * (number % 4)}", number + 1

    return Stream("a stream", "1", documents)


def kept() -> Corpus:
    texts = [f"{number} is a number" for number in range(40)]
    parts = Parts(Documents(texts[:36]), Documents(texts[36:]))
    return Corpus("kept", "2", running=False, read=lambda _: parts)


def mixed() -> Mixture:
    return Mixture("both", "3", ((0.7, streamed()), (0.3, kept())))


@pytest.mark.parametrize(
    ("corpus", "form", "prefetch"),
    [
        (mixed, "packed", 2),
        pytest.param(streamed, "stream", 0, marks=pytest.mark.slow),
        pytest.param(streamed, "packed", 2, marks=pytest.mark.slow),
        pytest.param(kept, "packed", 2, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_has_the_digest_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: Any, form: str, prefetch: int
):
    opened: AnyCorpus = corpus()
    monkeypatch.setattr(assembly, "open_corpus", lambda *_: opened)
    changes = FULL | {"data.format": form, "data.prefetch": prefetch, "tokenizer.kind": "bpe"}
    changes |= {"tokenizer.vocab_size": 300}
    small_run(tmp_path / "unbroken", changes)
    small_run(tmp_path / "broken", changes | {"train.steps": 3})
    small_run(tmp_path / "broken", changes)
    assert digest_step(tmp_path / "unbroken", 3) == digest_step(tmp_path / "broken", 3)
    assert digest_step(tmp_path / "unbroken", 6) == digest_step(tmp_path / "broken", 6)
    losses = [
        [line["train/loss"] for line in lines_of(tmp_path / name) if "train/loss" in line]
        for name in ("unbroken", "broken")
    ]
    assert losses[0] == losses[1] and len(set(losses[0])) == 6
