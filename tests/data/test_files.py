"""Which files a path, a folder or a pattern means, and the corpus that they become."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.data.corpus import Corpus, Documents
from nanogpt_jax.data.sources import parse_source
from nanogpt_jax.errors import ConfigError
from tests.opened import open_corpus, read_all, refusal


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("", "files:PATH_OR_GLOB"),
        ("?column=text", "files:PATH_OR_GLOB"),
        ("x.jsonl?colum=text", "did you mean 'column'"),
        ("x.jsonl?column=", "has no value"),
        ("x.jsonl?column=a&column=b", "given twice"),
        ("x.jsonl?column=a&rows", "'rows' is not known"),
    ],
)
def test_a_wrong_option_is_refused_before_any_file_is_looked_at(argument: str, told: str):
    assert told in refusal(lambda: parse_source(f"files:{argument}"), ConfigError)


def test_all_wrong_options_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_source("files:x?column=&rows=3")
    assert len(caught.value.problems) == 2


def test_a_question_mark_without_an_equals_sign_belongs_to_the_pattern(
    write: Callable[..., Path], tmp_path: Path
):
    write("a1.txt", "one")
    write("a22.txt", "two")
    assert read_all(tmp_path / "a?.txt") == ["one"]
    assert read_all(f"{tmp_path}/a?.txt?column=body") == ["one"]


def test_a_folder_is_read_to_the_bottom_in_the_order_of_its_paths(
    write: Callable[..., Path], tmp_path: Path
):
    write("root/b.txt", "b")
    write("root/a/z.txt", "a/z")
    write("root/a.txt", "a")
    write("root/notes.md", "of another kind")
    write("root/.hidden/c.txt", "hidden")
    (tmp_path / "root" / "a" / "loop").symlink_to(tmp_path / "root")
    assert read_all(tmp_path / "root") == ["a/z", "a", "b"]
    assert read_all(f"{tmp_path}/root/**/*.txt") == ["a/z", "a", "b"]
    assert read_all(f"{tmp_path}/root/*.txt") == ["a", "b"]


def test_brackets_may_be_a_pattern_or_part_of_a_name(write: Callable[..., Path], tmp_path: Path):
    path = write("[1].txt", "by name")
    write("1.txt", "by pattern")
    assert read_all(path) == ["by name"]
    assert read_all(tmp_path / "[0-9].txt") == ["by pattern"]


def test_what_names_no_file_that_can_be_read_is_refused(write: Callable[..., Path], tmp_path: Path):
    write("only/a.md", "x")
    os.mkfifo(tmp_path / "pipe.txt")  # opening it would wait for ever
    for argument, told in {
        "absent/*.txt": "matches no file",
        "only": "has no file that ends in .txt, .jsonl, .json, .csv, .parquet",
        "only/*": "a.md, but only .txt",
        "only/a.md": "a.md, but only .txt",
        "pipe.txt": "not a regular file",
    }.items():
        assert told in refusal(lambda argument=argument: read_all(tmp_path / argument))


def test_files_without_text_are_refused_when_they_are_read(
    write: Callable[..., Path], tmp_path: Path
):
    write("a.txt", " \n")
    write("b.jsonl", '{"text": null}\n{"text": " "}')
    corpus = open_corpus(f"files:{tmp_path}")
    assert "no text" in refusal(lambda: corpus.read(0.1))


def test_a_bad_record_is_counted_once_however_often_the_corpus_is_read(
    write: Callable[..., Path],
):
    path = write("a.jsonl", '1\n"x"\n2\n"y"')
    corpus = open_corpus(f"files:{path}", skipped=2)
    for _ in range(3):
        assert list(corpus.read(0.0).train.texts) == ["x", "y"]


@given(count=st.integers(1, 30), percent=st.integers(0, 100))
def test_the_held_out_documents_are_the_last(
    tmp_path_factory: pytest.TempPathFactory, count: int, percent: int
):
    path = tmp_path_factory.mktemp("split") / "a.json"
    path.write_text(json.dumps(list(map(str, range(count)))))
    parts = open_corpus(f"files:{path}").read(percent / 100)
    assert [*parts.train.texts, *parts.val.texts] == list(map(str, range(count)))
    kept = count * (100 - percent) // 100
    assert [sized(part) for part in parts] == [kept, count - kept]


def sized(part: Documents) -> int:
    texts = list(part.texts)
    assert texts == list(part.texts)  # a second time
    return len(texts)


def test_a_corpus_names_its_pattern_without_its_folder_and_knows_its_content(
    write: Callable[..., Path], tmp_path: Path
):
    def opened(name: str, content: str, option: str = "") -> Corpus:
        write(f"{name}/b.txt", "always the same")
        write(f"{name}/a.jsonl", content)
        return open_corpus(f"files:{tmp_path / name}{option}")

    corpora = [opened("one", '"x"'), opened("one", '"y"'), opened("one", '"x"', "?column=b")]
    assert [corpus.identity for corpus in corpora] == [
        "files:one",
        "files:one",
        "files:one?column=b",
    ]
    (tmp_path / "one" / "a.jsonl").rename(tmp_path / "one" / "c.jsonl")
    corpora.append(open_corpus(f"files:{tmp_path / 'one'}"))
    assert len({corpus.fingerprint for corpus in corpora}) == 4
    assert opened("another place", '"x"').fingerprint == corpora[0].fingerprint
    assert not corpora[0].running and corpora[0].truth is None


def test_a_file_that_changes_under_an_open_corpus_is_refused(write: Callable[..., Path]):
    path = write("a.jsonl", '"one"')
    corpus = open_corpus(f"files:{path}")
    texts = corpus.read(0.0).train.texts
    assert list(texts) == ["one"]
    write("a.jsonl", '"two"')
    os.utime(path, ns=(0, 0))  # a rewrite may fall into the same tick of the clock
    assert "changed" in refusal(lambda: list(texts))
