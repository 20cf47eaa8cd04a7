"""The store: encoded once, mapped from disk, in one shard or in many."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nanogpt_jax.data import store
from nanogpt_jax.data.corpus import Corpus, Documents, Parts
from nanogpt_jax.data.store import Tokens, open_store, shards
from nanogpt_jax.tokenization import Tokenizer
from tests.data.store.corpora import (
    ALPHABET,
    NAMES,
    WORDS,
    char_tokenizer,
    contents,
    make_small,
    names_corpus,
    running_corpus,
    words_corpus,
)


def test_documents_begin_with_bos_and_are_counted(char: Tokenizer):
    train, val, running = open_store(names_corpus(nats=[1.0, 2.0, 3.5]), char, 0.1)
    assert not running and (train.documents, val.documents) == (3, 1)
    assert train.starts.tolist() == [0, 5, 12, 16]
    for name, start, end in zip(NAMES, train.starts[:-1], train.starts[1:], strict=False):
        assert train.ids[start] == char.bos_id
        assert char.decode(train.ids[start:end].tolist()) == name
    assert train.characters.tolist() == train.bytes.tolist() == [4, 6, 3]
    assert train.nats.tolist() == [1.0, 2.0, 3.5]
    assert np.isnan(val.nats).all() and len(val.nats) == 1


def test_running_text_has_no_bos_and_is_one_document(char: Tokenizer):
    train, val, running = open_store(running_corpus("one text\n", "and its end"), char, 0.1)
    assert running and train.documents == val.documents == 1
    assert char.decode(train.ids.tolist()) == "one text\n"
    assert char.bos_id not in train.ids
    assert val.starts.tolist() == [0, 11]


def test_bytes_and_characters_are_counted_apart():
    tokenizer = char_tokenizer("aé😀")
    train = open_store(running_corpus("aé😀a"), tokenizer, 0.1).train
    assert (train.characters.tolist(), train.bytes.tolist()) == ([4], [8])


def test_a_second_open_encodes_nothing_and_finds_the_same(char: Tokenizer, encoded: list[str]):
    first = open_store(names_corpus(), char, 0.1)
    assert encoded == NAMES

    def refuse(_: float) -> Parts:
        pytest.fail("the corpus was read again")

    unread = dataclasses.replace(names_corpus(), read=refuse)
    second = open_store(unread, char_tokenizer(ALPHABET), 0.1)
    assert encoded == NAMES
    for part in ("train", "val"):
        for name in Tokens._fields:
            ours, theirs = (getattr(getattr(each, part), name) for each in (first, second))
            np.testing.assert_array_equal(ours, theirs)


def test_corpus_tokenizer_split_and_form_each_have_their_own_tokens(
    char: Tokenizer, encoded: list[str], cache: Path
):
    other = char_tokenizer(ALPHABET + "é")
    as_text = dataclasses.replace(running_corpus("emma"), fingerprint="names")
    open_store(names_corpus(), char, 0.1)
    open_store(names_corpus("other names"), char, 0.1)
    open_store(names_corpus(), other, 0.1)
    open_store(names_corpus(), char, 0.2)
    open_store(as_text, char, 0.1)
    assert len([text for text in encoded if text]) == 4 * len(NAMES) + 1
    assert len(list((cache / "tokens").iterdir())) == 5


def test_tokens_are_mapped_from_the_file_and_cannot_be_written(char: Tokenizer):
    train = open_store(names_corpus(), char, 0.1).train
    for array in train:
        assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(train.ids)[0] = 1


def test_a_part_without_text_is_kept_too(char: Tokenizer):
    val = open_store(running_corpus("all of it"), char, 0.0).val
    assert (len(val.ids), val.documents, val.characters.tolist()) == (0, 1, [0])
    none = Corpus("", "none", False, lambda _: Parts(Documents(["a"]), Documents([])))
    val = open_store(none, char, 0.0).val
    assert (len(val.ids), val.documents, val.starts.tolist()) == (0, 0, [0])


@pytest.mark.parametrize("running", [True, False])
def test_shards_hold_what_one_would(
    char: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: bool
):
    whole = open_store(words_corpus(running), char, 0.1)
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "other"))
    make_small(monkeypatch.setattr)
    parts = open_store(words_corpus(running), char, 0.1)
    assert isinstance(whole.train.ids, np.memmap) and isinstance(parts.train.ids, shards.Joined)
    for ours, theirs in zip(whole[:2], parts[:2], strict=True):
        for name in Tokens._fields:
            np.testing.assert_array_equal(getattr(ours, name), np.asarray(getattr(theirs, name)))
    assert len([name for name in contents(tmp_path / "other") if name.endswith(".ids")]) > 6


def test_running_text_in_any_portions_is_one_document(
    char: Tokenizer, small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    whole = "".join(WORDS)
    first = open_store(words_corpus(True), char, 0.1).train
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "other"))
    second = open_store(words_corpus(True, [whole]), char, 0.1).train
    assert char.decode(first.ids.tolist()) == whole
    assert (first.documents, first.characters.tolist()) == (1, [len(whole)])
    assert contents(tmp_path / "cache") == contents(tmp_path / "other")
    np.testing.assert_array_equal(first.starts, second.starts)


def test_a_document_may_go_through_several_shards(char: Tokenizer, small: None):
    texts = ["short", " ".join(WORDS[:20]), "", "the end"]
    train = open_store(words_corpus(False, texts), char, 0.1).train
    assert train.documents == 4 and train.characters.tolist() == [len(text) for text in texts]
    for text, start, end in zip(texts, train.starts[:-1], train.starts[1:], strict=True):
        assert train.ids[start] == char.bos_id
        assert char.decode(train.ids[start:end].tolist()) == text


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NANOGPT_CACHE", "/given")
    assert store.cache_directory() == Path("/given")
    monkeypatch.delenv("NANOGPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/users")
    assert store.cache_directory() == Path("/users/nanogpt_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert store.cache_directory() == Path("/home/someone/.cache/nanogpt_jax")
