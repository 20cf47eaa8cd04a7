"""The store after an interruption, damage, a failing source or a rival: gone on with, whole."""

import dataclasses
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanogpt_jax.data import store
from nanogpt_jax.data.corpus import Parts
from nanogpt_jax.data.store import open_store
from nanogpt_jax.tokenization import Tokenizer
from tests.data.store.corpora import (
    WORDS,
    Stop,
    char_tokenizer,
    contents,
    make_small,
    names_corpus,
    stopping,
    words_corpus,
)


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
