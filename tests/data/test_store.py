"""The store: encoded once, mapped from disk, whole or gone on with."""

import dataclasses
import itertools
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.data import store
from nanogpt_jax.data.corpus import Corpus, Documents, Parts
from nanogpt_jax.data.store import (
    Tokens,
    columns,
    open_store,
    open_tokenizer,
    pieces,
    shards,
)
from nanogpt_jax.errors import DataError
from nanogpt_jax.tokenization import Tokenizer

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz"
NAMES = ["emma", "olivia", "ava", "zoe"]
TEXT = "It's a line.\nAnd 12 more:\n\n\tthe last's the third\r\nof the text 東京 é\n" * 4


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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


def make_small(setter: Callable[[object, str, int], object] = setattr) -> None:
    """Pieces, chunks and shards so small that a short text has many."""
    setter(pieces, "PIECE_CHARACTERS", 5)
    setter(pieces, "CHUNK_CHARACTERS", 25)
    setter(shards, "SHARD_TOKENS", 60)


WORDS = [f"{ALPHABET[n % 26 + 1]}word {ALPHABET[n % 7 + 2] * (n % 9)}" for n in range(60)]


def words_corpus(running: bool, given: Iterable[str] = WORDS) -> Corpus:
    parts = Parts(Documents(given), Documents(["held", "out"]))
    return Corpus("text:words.txt", "words", running=running, read=lambda _: parts)


def contents(cache: Path) -> dict[str, bytes]:
    """All files of the only tokens in a cache."""
    (folder,) = (cache / "tokens").iterdir()
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


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


class Stop(Exception):
    """What ends a source in the middle."""


def stopping(given_texts: Iterable[str], after: int) -> Iterator[str]:
    yield from itertools.islice(given_texts, after)
    raise Stop


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    running=st.booleans(),
    stops=st.lists(st.integers(0, len(WORDS)), min_size=1, max_size=3).map(sorted),
)
def test_interrupted_anywhere_and_gone_on_with_it_is_the_same(
    char: Tokenizer,
    small: None,
    tmp_path_factory: pytest.TempPathFactory,
    running: bool,
    stops: list[int],
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # hundreds of them take seconds
        results = []
        for interruptions in ([], stops):
            cache = tmp_path_factory.mktemp("cache")
            patch.setenv("NANOGPT_CACHE", str(cache))
            for after in interruptions:
                with pytest.raises(Stop):
                    open_store(words_corpus(running, stopping(WORDS, after)), char, 0.1)
            open_store(words_corpus(running), char, 0.1)
            results.append(contents(cache))
    assert results[0] == results[1]


class Stuck(Iterable[str]):
    """Texts that stop coming: whoever asks for the next says so, and waits."""

    def __init__(self, texts: Sequence[str], asked: Event):
        self._texts, self._asked = texts, asked

    def __iter__(self) -> Iterator[str]:
        yield from self._texts
        self._asked.set()
        while True:
            time.sleep(60)


def open_and_hang(running: bool, half_done: Event) -> None:
    make_small()
    open_store(words_corpus(running, Stuck(WORDS[:45], half_done)), char_tokenizer(), 0.1)


@pytest.mark.parametrize("running", [True, False])
def test_a_writer_that_was_killed_is_gone_on_with_to_the_same_end(
    char: Tokenizer,
    small: None,
    encoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    running: bool,
):
    context = multiprocessing.get_context("spawn")
    half_done = context.Event()
    process = context.Process(target=open_and_hang, args=(running, half_done))
    process.start()
    assert half_done.wait(timeout=60)
    process.kill()
    process.join()
    left = contents(tmp_path / "cache")
    assert any(name.endswith(".ids.unfinished") for name in left)
    finished = [shard["characters"] for shard in json.loads(left["train/index.json"])["shards"]]
    assert len(finished) >= 4

    open_store(words_corpus(running), char, 0.1)
    done_again = sum(map(len, encoded)) - len("heldout")
    assert done_again == sum(map(len, WORDS)) - sum(finished)
    gone_on_with = contents(tmp_path / "cache")
    assert gone_on_with.items() >= {
        (name, left[name]) for name in left if name.endswith((".ids", ".pieces"))
    }
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "other"))
    open_store(words_corpus(running), char, 0.1)
    assert gone_on_with == contents(tmp_path / "other")


@pytest.mark.parametrize("name", ["00002.ids", "00002.pieces", "starts.npy", "nats.npy"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_what_is_damaged_is_made_again_with_a_warning(
    char: Tokenizer,
    small: None,
    encoded: list[str],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    harm: str,
):
    open_store(words_corpus(False), char, 0.1)
    before = contents(cache)
    (path,) = cache.glob(f"tokens/*/train/{name}")
    content = path.read_bytes()
    path.unlink()
    if harm != "remove":
        path.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if harm == "flip" else b""))
    encoded.clear()
    open_store(words_corpus(False), char, 0.1)
    (warning,) = (each.getMessage() for each in caplog.records if each.levelname == "WARNING")
    assert name in warning and "it is made again" in warning
    assert contents(cache) == before
    # Nothing that was finished before it, and nothing of the other part.
    assert encoded == (WORDS[WORDS.index(encoded[0]) :] if name.startswith("0") else [])
    assert WORDS[0] not in encoded


def test_a_large_store_is_opened_by_the_sizes_alone(
    char: Tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[str]
):
    ids = open_store(words_corpus(False), char, 0.1).train.ids.tolist()
    (path,) = cache.glob("tokens/*/train/00000.ids")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    monkeypatch.setattr(store, "VERIFIED_BYTES", 100)
    encoded.clear()
    open_store(words_corpus(False), char, 0.1)
    assert encoded == []
    path.write_bytes(path.read_bytes()[:-1])
    assert open_store(words_corpus(False), char, 0.1).train.ids.tolist() == ids
    assert encoded == WORDS


def test_of_two_that_want_the_same_tokens_one_makes_them_and_the_other_waits(
    char: Tokenizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    first_is_writing, second_waits = threading.Event(), threading.Event()
    readings: list[int] = []
    info = store.logging.info

    def listen(message: str, *arguments: object) -> None:
        info(message, *arguments)
        if "waiting" in message:
            second_waits.set()

    def read(_: float) -> Parts:
        readings.append(1)
        first_is_writing.set()
        assert second_waits.wait(30)
        return names_corpus().read(0.1)

    monkeypatch.setattr(store.logging, "info", listen)
    corpus = dataclasses.replace(names_corpus(), read=read)
    opened: list[store.Store] = []
    threads = [
        threading.Thread(target=lambda: opened.append(open_store(corpus, char, 0.1)))
        for _ in range(2)
    ]
    threads[0].start()
    assert first_is_writing.wait(30)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert readings == [1]
    assert [each.train.ids.tolist() for each in opened] == [opened[0].train.ids.tolist()] * 2


def test_the_log_says_how_far_it_is_and_where_it_goes_on(
    char: Tokenizer, small: None, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    with pytest.raises(Stop):
        open_store(words_corpus(False, stopping(WORDS, 20)), char, 0.1)
    open_store(words_corpus(False), char, 0.1)
    lines: list[str] = [record.getMessage() for record in caplog.records]
    assert all(line.startswith("tokens of text:words.txt (") for line in lines)
    finished = [("shard" in line and "shards" not in line) for line in lines].index(False)
    assert finished >= 2 and f"going on after {finished} finished shards" in lines[finished]
    assert f"shard {finished + 1} has " in lines[finished + 1]


def test_an_error_in_a_source_leaves_what_was_finished(
    char: Tokenizer, small: None, encoded: list[str]
):
    with pytest.raises(Stop):
        open_store(words_corpus(False, stopping(WORDS, 40)), char, 0.1)
    encoded.clear()
    assert open_store(words_corpus(False), char, 0.1).train.documents == len(WORDS)
    assert WORDS[0] not in encoded and WORDS[-1] in encoded


def known_corpus(text: str, nats: Sequence[float] | np.ndarray | None) -> Corpus:
    parts = Parts(Documents([text], nats), Documents([]))
    return Corpus("synthetic:known", f"{text}{nats}", running=True, read=lambda _: parts)


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return tokenization.train("bpe", [TEXT], 300)


def test_the_nats_of_running_text_are_added_up_for_each_token(
    bpe: Tokenizer, small: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(columns, "BLOCK_TOKENS", 7)
    text = "of the line: the 12 last's " * 9
    nats = np.random.default_rng(0).exponential(size=len(text))
    train = open_store(known_corpus(text, nats), bpe, 0.1).train
    lengths = [len(bpe.bytes_of(token)) for token in train.ids.tolist()]
    assert max(lengths) > 3 and len(train.nats) == len(train.ids) > shards.SHARD_TOKENS
    ends = np.cumsum(lengths)
    expected = [nats[end - length : end].sum() for end, length in zip(ends, lengths, strict=True)]
    np.testing.assert_allclose(train.nats, expected, rtol=1e-12)


def test_the_nats_of_no_running_text_are_none(bpe: Tokenizer):
    assert open_store(known_corpus("", []), bpe, 0.1).train.nats.tolist() == []
    assert np.isnan(open_store(known_corpus("", None), bpe, 0.1).train.nats).tolist() == [True]


@pytest.mark.parametrize(
    "text, count, words",
    [
        ("é", 1, "1 characters of 2 bytes, probabilities of 1"),
        ("of the", 5, "6 characters of 6 bytes, probabilities of 5"),
    ],
)
def test_probabilities_that_do_not_fit_running_text_are_refused(
    bpe: Tokenizer, text: str, count: int, words: str
):
    with pytest.raises(DataError, match=words):
        open_store(known_corpus(text, [1.0] * count), bpe, 0.1)


def test_every_document_needs_its_probability_or_none_has_one(char: Tokenizer):
    with pytest.raises(DataError, match="3 documents and probabilities of 2"):
        open_store(names_corpus(nats=[1.0, 2.0]), char, 0.1)


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NANOGPT_CACHE", "/given")
    assert store.cache_directory() == Path("/given")
    monkeypatch.delenv("NANOGPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/users")
    assert store.cache_directory() == Path("/users/nanogpt_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert store.cache_directory() == Path("/home/someone/.cache/nanogpt_jax")


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
