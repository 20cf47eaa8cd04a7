"""The store: encoded once, mapped from disk, whole or not there at all."""

import dataclasses
import multiprocessing
import threading
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.data import store
from nanogpt_jax.data.corpus import Corpus, Documents, Parts
from nanogpt_jax.data.store import Tokens, cut, open_store, open_tokenizer
from nanogpt_jax.tokenization import Tokenizer

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz"
NAMES = ["emma", "olivia", "ava", "zoe"]
TEXT = "It's a line.\nAnd 12 more:\n\n\tthe last's the third\r\nof the text 東京 é\n" * 4
SHREDS = ["\n", "\n", "\n", "\r\n", " ", "\t", "'s", "a", "é", "e\u0301", "東", "12", ".", "\u2028"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, not yet made."""
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def char_tokenizer(characters: str = ALPHABET) -> Tokenizer:
    return tokenization.train("char", [characters], 0)


@pytest.fixture
def char() -> Tokenizer:
    return char_tokenizer()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that any char tokenizer has encoded since."""
    texts: list[str] = []
    kind = tokenization.tokenizers["char"]
    encode_batch = kind.encode_batch

    def note(self: Tokenizer, batch: Sequence[str]) -> list[tokenization.Tokens]:
        texts.extend(batch)
        return encode_batch(self, batch)

    monkeypatch.setattr(kind, "encode_batch", note)
    return texts


def names_corpus(fingerprint: str = "names", nats: Sequence[float] | None = None) -> Corpus:
    parts = Parts(Documents(NAMES[:3], nats), Documents(NAMES[3:]))
    return Corpus("text:names.txt", fingerprint, running=False, read=lambda _: parts)


def running_corpus(train: str, val: str = "") -> Corpus:
    parts = Parts(Documents([train]), Documents([val]))
    return Corpus("text:running.txt", train + "|" + val, running=True, read=lambda _: parts)


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
    assert len(encoded) == 4 * len(NAMES) + 1
    assert len(list((cache / "tokens").iterdir())) == 5


def test_tokens_are_mapped_from_the_file_and_cannot_be_written(char: Tokenizer):
    train = open_store(names_corpus(), char, 0.1).train
    for array in train:
        assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        train.ids[0] = 1


@pytest.mark.parametrize("size, dtype", [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_two_bytes_are_kept_for_each_token_where_they_suffice(size: int, dtype: type):
    points = [chr(point) for point in range(0x10000, 0x10000 + size - 1)]
    tokenizer = char_tokenizer("".join(points))
    assert tokenizer.vocab_size == size
    train = open_store(running_corpus(points[-1]), tokenizer, 0.1).train
    assert (train.ids.dtype, train.ids.tolist()) == (dtype, [size - 2])


def test_a_part_without_text_is_kept_too(char: Tokenizer):
    val = open_store(running_corpus("all of it"), char, 0.0).val
    assert (len(val.ids), val.documents, val.characters.tolist()) == (0, 1, [0])
    none = Corpus("", "none", False, lambda _: Parts(Documents(["a"]), Documents([])))
    val = open_store(none, char, 0.0).val
    assert (len(val.ids), val.documents, val.starts.tolist()) == (0, 0, [0])


def test_an_encoder_that_fails_half_way_leaves_nothing(char: Tokenizer, cache: Path):
    parts = Parts(Documents(["known"]), Documents(["UNKNOWN"]))
    corpus = Corpus("", "half", running=False, read=lambda _: parts)
    with pytest.raises(tokenization.TokenizerError):
        open_store(corpus, char, 0.1)
    assert list((cache / "tokens").iterdir()) == []


class Stuck(list[str]):
    """Texts that never come: whoever asks for them says so, and waits."""

    def __init__(self, asked: Event):
        super().__init__(["never seen"])
        self._asked = asked

    def __getitem__(self, _: object) -> NoReturn:
        self._asked.set()
        while True:
            time.sleep(60)


def open_and_hang(half_done: Event) -> None:
    parts = Parts(Documents(NAMES[:3]), Documents(Stuck(half_done)))
    corpus = dataclasses.replace(names_corpus(), read=lambda _: parts)
    open_store(corpus, char_tokenizer(), 0.1)


def test_a_writer_killed_half_way_leaves_nothing_under_the_final_name(
    char: Tokenizer, cache: Path, encoded: list[str]
):
    context = multiprocessing.get_context("spawn")
    half_done = context.Event()
    process = context.Process(target=open_and_hang, args=(half_done,))
    process.start()
    assert half_done.wait(timeout=60)
    process.kill()
    process.join()
    (left,) = (cache / "tokens").iterdir()
    assert left.name.startswith(".") and (left / "train" / "ids.npy").is_file()
    assert open_store(names_corpus(), char, 0.1).val.documents == 1
    assert encoded == NAMES


def test_two_writers_at_once_both_get_the_tokens(char: Tokenizer, cache: Path):
    both_are_writing = threading.Barrier(2, timeout=30)
    parts = names_corpus().read(0.1)

    def read(_: float) -> Parts:
        both_are_writing.wait()  # only passed when neither found the other's
        return parts

    corpus = dataclasses.replace(names_corpus(), read=read)
    opened: list[store.Store] = []
    threads = [
        threading.Thread(target=lambda: opened.append(open_store(corpus, char, 0.1)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.train.ids.tolist() for each in opened] == [opened[0].train.ids.tolist()] * 2
    assert len(list((cache / "tokens").iterdir())) == 1


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NANOGPT_CACHE", "/given")
    assert store.cache_directory() == Path("/given")
    monkeypatch.delenv("NANOGPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/users")
    assert store.cache_directory() == Path("/users/nanogpt_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert store.cache_directory() == Path("/home/someone/.cache/nanogpt_jax")


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return tokenization.train("bpe", [TEXT], 300)


@given(lines=st.lists(st.sampled_from(SHREDS), min_size=5, max_size=60).map("".join))
def test_text_encoded_in_pieces_is_the_text_encoded_whole(bpe: Tokenizer, lines: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "PIECE_CHARACTERS", 3)
        pieces = list(cut(lines))
    assert "".join(pieces) == lines
    ids = [token for piece in pieces for token in bpe.encode(piece).tolist()]
    assert ids == bpe.encode(lines).tolist()


def test_text_is_really_cut_and_a_store_of_pieces_is_in_order(
    bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "PIECE_CHARACTERS", 10)
    monkeypatch.setattr(store, "ENCODED_AT_ONCE", 3)
    assert len(list(cut(TEXT))) > 9
    train = open_store(running_corpus(TEXT), bpe, 0.1).train
    assert train.ids.tolist() == bpe.encode(TEXT).tolist()
    assert train.starts.tolist() == [0, len(train.ids)]


def test_documents_are_encoded_in_order_batch_after_batch(
    char: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "ENCODED_AT_ONCE", 2)
    train = open_store(names_corpus(), char, 0.1).train
    assert char.decode(train.ids.tolist()) == "".join(NAMES[:3])


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of every tokenizer learned since."""
    seen: list[list[str]] = []
    train = tokenization.train

    def note(kind: str, texts: Sequence[str], vocab_size: int) -> Tokenizer:
        seen.append(list(texts))
        return train(kind, seen[-1], vocab_size)

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
