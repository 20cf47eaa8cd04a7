"""Tokenizers that are learned once and kept."""

import dataclasses
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax import tokenization
from nanogpt_jax.data import store
from nanogpt_jax.data.corpus import Parts
from nanogpt_jax.data.store import open_tokenizer
from nanogpt_jax.tokenization import Tokenizer
from tests.data.store.corpora import NAMES, names_corpus


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of every tokenizer learned since."""
    seen: list[list[str]] = []
    train = tokenization.train

    def note(kind: str, texts: Iterable[str], *asked: Any) -> Tokenizer:
        seen.append(list(texts))
        return train(kind, seen[-1], *asked)

    monkeypatch.setattr(tokenization, "train", note)
    return seen


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_a_tokenizer_is_learned_once(kind: str, learned: list[list[str]]):
    first = open_tokenizer(names_corpus(), kind, 260, 0.1)

    def refuse(_: float) -> Parts:
        pytest.fail("the corpus was read again")

    unread = dataclasses.replace(names_corpus(), read=refuse)
    assert open_tokenizer(unread, kind, 260, 0.1).sha256 == first.sha256
    assert len(learned) == 1


def test_merges_are_learned_without_the_held_out_part_and_an_alphabet_with_it(
    learned: list[list[str]],
):
    open_tokenizer(names_corpus(), "bpe", 260, 0.1)
    open_tokenizer(names_corpus(), "char", 260, 0.1)
    assert learned == [NAMES[:3], NAMES]


def test_a_tokenizer_is_learned_anew_for_anything_that_decides_it(
    learned: list[list[str]], monkeypatch: pytest.MonkeyPatch
):
    def open_all() -> None:
        open_tokenizer(names_corpus(), "bpe", 260, 0.1)
        open_tokenizer(names_corpus("other names"), "bpe", 260, 0.1)
        open_tokenizer(names_corpus(), "bpe", 261, 0.1)
        open_tokenizer(names_corpus(), "bpe", 260, 0.2)

    open_all()
    open_all()
    assert len(learned) == 4
    monkeypatch.setattr(store, "code_digest", lambda _: "another version")
    open_all()
    assert len(learned) == 8


def test_the_log_says_whether_a_tokenizer_was_learned_now(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    open_tokenizer(names_corpus(), "char", 0, 0.1)
    open_tokenizer(names_corpus(), "char", 0, 0.1)
    lines: list[str] = [record.getMessage() for record in caplog.records]
    assert ["learned now" in line for line in lines] == [True, False]
    assert all("text:names.txt" in line for line in lines)


def test_small_files_that_killed_writers_left_are_removed_after_a_day(cache: Path):
    folder = cache / "tokenizers"
    folder.mkdir(parents=True)
    old, young, finished = folder / ".a.json.12", folder / ".b.json.13", folder / "c.json"
    for path in (old, young, finished):
        path.touch()
    for path in (old, finished):
        os.utime(path, (0, time.time() - 25 * 60 * 60))
    open_tokenizer(names_corpus(), "char", 0, 0.1)
    assert set(folder.iterdir()) > {young, finished}
    assert not old.exists()
