"""Sources: what a file may be, where it is split, and that a story is told once."""

import contextlib
import functools
import importlib
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanogpt_jax.data.corpus import Corpus, Parts, code_digest, split_at
from nanogpt_jax.data.sources import bundled, kind_of, sources, tales
from nanogpt_jax.data.store.pieces import cut
from nanogpt_jax.errors import ConfigError
from tests.opened import open_corpus, refusal


@pytest.fixture
def open_bytes(tmp_path: Path) -> Callable[..., Corpus]:
    """A function from a file's content to the corpus of it."""

    def open_(content: bytes, *, documents: bool = False) -> Corpus:
        path = tmp_path / "given.txt"
        path.write_bytes(content)
        return open_corpus(f"text:{path}", documents=documents)

    return open_


def test_every_kind_is_found_by_its_name():
    assert set(sources) >= {"bundled", "text"}
    assert kind_of("text:/a:b") == "text"


@pytest.mark.parametrize(("source", "form"), [("text", "text:PATH"), ("bundled", "tales")])
def test_a_source_without_an_argument_is_refused_with_an_example(source: str, form: str):
    for written in (source, f"{source}:"):
        assert form in refusal(lambda written=written: open_corpus(written), ConfigError)


def test_a_missing_file_is_refused_by_name(tmp_path: Path):
    message = refusal(lambda: open_corpus(f"text:{tmp_path}/absent.txt"))
    assert "absent.txt" in message and "No such file" in message


def test_a_directory_a_pipe_and_a_device_are_no_regular_files(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        message = refusal(functools.partial(open_corpus, f"text:{path}"))
        assert "not a regular file" in message


def test_more_than_a_gibibyte_is_refused_by_the_metadata_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "large.txt"
    path.touch()
    os.truncate(path, 2**30 + 1)  # sparse: no such bytes exist
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("the file was opened"))
    message = refusal(lambda: open_corpus(f"text:{path}"))
    assert "1073741825 bytes" in message and "1 GiB" in message


def test_a_gibibyte_is_let_in_without_holding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nanogpt_jax.data.sources.text.MAX_BYTES", 2**24)
    path = tmp_path / "limit.txt"
    path.touch()
    os.truncate(path, 2**24)
    tracemalloc.start()
    open_corpus(f"text:{path}")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**22


def test_a_file_that_is_not_utf8_is_refused_with_the_place(open_bytes: Callable[..., Corpus]):
    message = refusal(lambda: open_bytes(b"abc\xff\xfe").read(0.1))
    assert "not UTF-8 at byte 3" in message and "iconv" in message


@pytest.mark.parametrize("content", [b"", b" \r\n\t\n"])
def test_a_file_without_text_is_refused(open_bytes: Callable[..., Corpus], content: bytes):
    assert "no text" in refusal(lambda: open_bytes(content).read(0.1))


def test_a_file_that_changes_under_an_open_corpus_is_refused(open_bytes: Callable[..., Corpus]):
    corpus = open_bytes(b"before")
    corpus.read(0.5)
    open_bytes(b"behind")  # the same file, the same length
    assert "changed" in refusal(lambda: corpus.read(0.5))


def test_a_corpus_names_its_file_without_its_folder_and_knows_its_content(
    open_bytes: Callable[..., Corpus], tmp_path: Path
):
    first, other, again = open_bytes(b"one"), open_bytes(b"two"), open_bytes(b"one")
    assert first.identity == "text:given.txt"
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.truth is None and first.running


def test_a_file_that_grows_shrinks_or_goes_while_it_is_read_is_refused(
    open_bytes: Callable[..., Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nanogpt_jax.data.sources.text.BLOCK_BYTES", len(b"some text"))
    for meanwhile in (b"some text and more", b"some", None):
        corpus = open_bytes(b"some text", documents=True)
        train = corpus.read(0.0).train
        path = tmp_path / "given.txt"
        path.write_bytes(meanwhile) if meanwhile else path.unlink()
        assert "changed" in refusal(functools.partial(list, train.texts))


SHREDS = ["\r\n", "\n", "\r", "a", "b c", "é", "\u2028", "\ufeff", "😀"]


@contextlib.contextmanager
def tiny_blocks() -> Iterator[None]:
    """Blocks that end within characters, and pieces of a few of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanogpt_jax.data.sources.text.BLOCK_BYTES", 3)
        patch.setattr("nanogpt_jax.data.store.pieces.PIECE_CHARACTERS", 2)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exact")


@tiny_blocks()
@given(content=st.lists(st.sampled_from(SHREDS)), percent=st.integers(0, 100))
def test_running_text_is_the_file_to_the_character(folder: Path, content: list[str], percent: int):
    text = "".join(["x\r\n", *content])
    (folder / "text.txt").write_bytes(text.encode())
    train, val = open_corpus(f"text:{folder}/text.txt").read(percent / 100)
    middle = split_at(len(text), percent / 100)
    for part, expected in ((train, text[:middle]), (val, text[middle:])):
        assert list(part.texts) == list(cut([expected])), "text is given in the store's pieces"
        assert "".join(part.texts) == expected, "and again as often as it is asked for"


@tiny_blocks()
@given(content=st.lists(st.sampled_from(SHREDS)), percent=st.integers(0, 100))
def test_documents_are_the_lines_that_say_something(folder: Path, content: list[str], percent: int):
    text = "".join(["x\r\n", *content])
    (folder / "text.txt").write_bytes(text.encode())
    train, val = open_corpus(f"text:{folder}/text.txt", documents=True).read(percent / 100)
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
    middle = split_at(len(lines), percent / 100)
    assert (list(train.texts), list(val.texts)) == (lines[:middle], lines[middle:])
    assert (list(train.texts), list(val.texts)) == (lines[:middle], lines[middle:])


def test_a_line_separator_of_unicode_is_a_character_of_a_document(
    open_bytes: Callable[..., Corpus],
):
    content = "emma\r\n\r\nolivia\n \nava\x0bmia\nzoë\u2028"
    train, val = open_bytes(content.encode(), documents=True).read(0.25)
    assert list(train.texts) == ["emma", "olivia", "ava\x0bmia"]
    assert list(val.texts) == ["zoë\u2028"]


@tiny_blocks()
@given(content=st.lists(st.sampled_from([b"a", "é".encode(), "😀".encode(), b"\xe2\x82", b"\xff"])))
def test_the_first_byte_that_is_not_utf8_is_named_wherever_blocks_end(
    folder: Path, content: list[bytes]
):
    joined = b"".join([b"x", *content])
    (folder / "text.txt").write_bytes(joined)
    corpus = open_corpus(f"text:{folder}/text.txt")
    try:
        joined.decode()
    except UnicodeDecodeError as error:
        assert f"not UTF-8 at byte {error.start};" in refusal(lambda: corpus.read(0.1))
    else:
        assert "".join(corpus.read(0.0).train.texts) == joined.decode()


@pytest.mark.parametrize("documents", [False, True])
def test_a_file_is_read_without_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: bool
):
    monkeypatch.setattr("nanogpt_jax.data.sources.text.BLOCK_BYTES", 2**16)
    path = tmp_path / "large.txt"
    path.write_bytes(b"a line of text\n" * 2**18)
    tracemalloc.start()
    train, _ = open_corpus(f"text:{path}", documents=documents).read(0.1)
    characters = sum(len(text) + documents for text in train.texts)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert characters >= path.stat().st_size * 0.9 - 15 > 2**21 > peak_bytes


@pytest.mark.parametrize("count, held_out", [(100, 10), (230, 23), (1_115_394, 111_540)])
def test_a_tenth_is_held_out(count: int, held_out: int):
    """The last is nanoGPT's split of tinyshakespeare: 1,003,854 and 111,540."""
    assert count - split_at(count, 0.1) == held_out


@example(count=100, percent=90)
@given(count=st.integers(0, 10**6), percent=st.integers(0, 100))
def test_the_split_is_exact_where_binary_fractions_are_not(count: int, percent: int):
    assert split_at(count, percent / 100) == count * (100 - percent) // 100


def test_the_held_out_part_is_the_tail(open_bytes: Callable[..., Corpus]):
    train, val = open_bytes(b"t" * 90 + b"v" * 10).read(0.1)
    assert (list(train.texts), list(val.texts)) == (["t" * 90], ["v" * 10])


def tell(**fields: Any) -> Corpus:
    return open_corpus("bundled:tales", **{"stories": 20, **fields})


def test_what_is_bundled_is_known_by_name():
    assert "known: dialogues, facts, questions, tales" in refusal(
        lambda: open_corpus("bundled:shakespeare"), ConfigError
    )


def test_the_tales_come_with_the_nats_of_each_story():
    corpus = tell()
    assert corpus.truth is not None and not corpus.running
    train, val = corpus.read(0.1)
    assert (len(list(train.texts)), len(list(val.texts))) == (18, 2)
    for part in (train, val):
        assert part.nats is not None
        for text, nats in zip(part.texts, part.nats, strict=True):
            log_probability = corpus.truth.log_probability(text)
            assert log_probability is not None and nats == -log_probability > 0


def test_the_tales_fingerprint_follows_the_arguments_and_the_grammar(
    monkeypatch: pytest.MonkeyPatch,
):
    digests = [tell().fingerprint, tell(stories=21).fingerprint, tell(corpus_seed=1).fingerprint]
    monkeypatch.setattr(bundled, "code_digest", lambda _: "another grammar")
    digests.append(tell().fingerprint)
    assert len(set(digests)) == 4
    monkeypatch.undo()
    assert tell().fingerprint == digests[0]


def test_a_code_digest_follows_every_file_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "some_grammar"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rules.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    some_grammar = importlib.import_module("some_grammar")
    before = code_digest(some_grammar)
    (package / "notes.txt").write_text("nothing")
    assert code_digest(some_grammar) == before
    (package / "rules.py").write_text("A = 2\n")
    changed = code_digest(some_grammar)
    (package / "rules.py").rename(package / "words.py")
    assert len({before, changed, code_digest(some_grammar)}) == 3


def test_opening_tells_no_story_and_reading_twice_tells_each_once(
    monkeypatch: pytest.MonkeyPatch,
):
    told: list[int] = []
    story = tales.story

    def count(index: int, seed: int) -> tuple[str, float]:
        told.append(index)
        return story(index, seed)

    monkeypatch.setattr(tales, "story", count)
    corpus = tell(corpus_seed=7)
    assert told == []
    first = corpus.read(0.1)
    assert told == list(range(20))
    again: Parts = tell(corpus_seed=7).read(0.5)
    assert told == list(range(20))
    assert len(list(first.train.texts)) != len(list(again.train.texts))
    assert [*first.train.texts, *first.val.texts] == [*again.train.texts, *again.val.texts]
