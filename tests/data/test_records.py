"""Records of files: what is a document in each format, and what becomes of a bad record."""

import datetime
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanogpt_jax.data.sources import records
from nanogpt_jax.data.sources.records import text_of
from nanogpt_jax.errors import MissingExtra
from tests.opened import open_corpus, read_all, refusal

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_a_text_file_is_one_document_to_the_character(write: Callable[..., Path]):
    content = "\ufeffone\r\ntwo\u2028three\n\n"
    assert read_all(write("a.txt", content)) == [content]


def test_a_line_of_jsonl_is_an_object_with_the_column_or_a_bare_string(write: Callable[..., Path]):
    path = write("a.jsonl", '\ufeff{"text": "one", "n": 1}\r\n\n"two\u2028"\n{"text": "three"}')
    assert read_all(path) == ["one", "two\u2028", "three"]
    path = write("b.JSONL", '{"n": 1}')
    assert read_all(f"{path}?column=n") == ["1"]


def test_json_is_an_array_of_strings_or_of_objects(write: Callable[..., Path]):
    assert read_all(write("a.json", '["one </s>", {"text": "two"}]')) == ["one </s>", "two"]


def test_csv_has_no_header_and_its_columns_are_joined_by_commas(write: Callable[..., Path]):
    path = write("a.csv", '\ufeffUser: hi,"a, ""b""\nc"\r\n\r\nx,y,z\n')
    assert read_all(path) == ['User: hi,a, "b"\nc', "x,y,z"]


def test_a_column_named_for_csv_is_one_of_its_header(write: Callable[..., Path]):
    path = write("a.csv", "id,body\n1,one\n2,two\n")
    assert read_all(f"{path}?column=body") == ["one", "two"]
    message = refusal(lambda: read_all(f"{path}?column=text"))
    assert "no column 'text' but 'id', 'body'" in message and "?column=NAME" in message


def test_a_csv_cell_may_be_longer_than_the_limit_of_the_library(write: Callable[..., Path]):
    assert read_all(write("a.csv", "x" * 200_000)) == ["x" * 200_000]


def test_parquet_has_its_texts_in_a_column(write: Callable[..., Path]):
    path = write("a.parquet", {"text": ["one", "two", "three"], "n": [1, None, 3]})
    assert read_all(path) == ["one", "two", "three"]
    assert read_all(f"{path}?column=n") == ["1", "3"]
    assert "no column 'body' but 'text', 'n'" in refusal(lambda: read_all(f"{path}?column=body"))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, None),
        ("as it is\u2028", "as it is\u2028"),
        (True, "true"),
        (1, "1"),
        (1.5, "1.5"),
        (["é", None], '["é", null]'),
        ({"a": "é"}, '{"a": "é"}'),
    ],
)
def test_a_cell_is_printed_as_json_prints_it_but_a_string_as_it_is(cell: Any, text: str | None):
    assert text_of(cell) == text


@example(texts=["\u2028", '"', "a,b", "\r", "x\n"])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_texts_come_back_from_every_format(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
):
    texts = [text for text in texts if text.strip()] or ["x"]
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.json").write_text(json.dumps(texts))
    (folder / "b.jsonl").write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts),
        encoding="utf-8",
        newline="",
    )
    quoted = ['"' + text.replace('"', '""') + '"\n' for text in texts]
    (folder / "c.csv").write_text("".join(quoted), encoding="utf-8", newline="")
    parquet.write_table(pyarrow.table({"text": texts}), folder / "d.parquet")
    assert read_all(folder) == 4 * texts


BAD_RECORDS = {
    "not JSON": ("a.jsonl", b'"x"\n{"text": \n"y"', "line 2, is not JSON", "correct the line"),
    "not UTF-8": ("a.jsonl", b'"x"\n"\xff"\n"y"', "line 2, is not JSON (not UTF-8 at byte 1)", ""),
    "too deep": ("a.jsonl", b'"x"\n' + b"[" * 10**5 + b'\n"y"', "line 2, is not JSON", ""),
    "no column": (
        "a.jsonl",
        b'"x"\n{"body": 1}\n"y"',
        "line 2, has no column 'text' but 'body'",
        "?column=",
    ),
    "a number": ("a.jsonl", b'"x"\n3\n"y"', "line 2, is of type int", "string or an object"),
    "half a character": ("a.jsonl", b'"x"\n"\\ud800"\n"y"', "line 2, is not valid Unicode", ""),
    "an element": ("a.json", b'["x", 3, "y"]', "element 2, is of type int", ""),
    "a row": ("a.csv", b'x\n"a"b\ny\n', "line 2, is not CSV", "correct the row"),
    "an open quote": ("a.csv", b'x\ny\n"z\nz', "line 4, is not CSV", "correct the row"),
    "a byte of a row": ("a.csv", b"x\n\xff\ny\n", "line 2, is not valid Unicode", ""),
}


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_a_bad_record_ends_the_run_with_its_place_or_is_left_out(
    write: Callable[..., Path], case: str
):
    name, content, told, remedy = BAD_RECORDS[case]
    path = write(name, content)
    message = refusal(lambda: read_all(path))
    assert f"{path}, {told}" in message and remedy in message and "on_bad_record" in message
    assert read_all(path, skipped=1) == ["x", "y"]


def test_a_row_of_parquet_that_is_no_text_is_a_bad_record(write: Callable[..., Path]):
    path = write("a.parquet", {"text": [datetime.date(2020, 1, 1), None]})
    message = refusal(lambda: read_all(path))
    assert f"{path}, row 1, is no text but a date" in message and "?column=NAME" in message
    raw = pyarrow.array([b"x", b"\xff", b"y"]).view(pyarrow.string())
    path = write("b.parquet", {"text": raw})
    assert f"{path}, row 2, is not UTF-8" in refusal(lambda: read_all(path))
    assert read_all(path, skipped=1) == ["x", "y"]


def test_a_text_file_that_is_not_utf8_is_a_bad_record(write: Callable[..., Path], tmp_path: Path):
    write("a.txt", b"x\xff")
    write("b.txt", b"y")
    assert "a.txt is not UTF-8 at byte 1" in refusal(lambda: read_all(tmp_path))
    assert read_all(tmp_path, skipped=1) == ["y"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b'{"text": "x"}', "holds no array but a dict"),
        ("a.json", b'["x"', "is not JSON"),
        ("a.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_no_record_to_skip(
    tmp_path: Path, name: str, content: bytes, told: str
):
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(lambda: read_all(path, skipped=9))
    assert str(path) in message and told in message


def test_what_must_be_held_in_memory_is_bounded(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(records, "MAX_BYTES", 10)
    for name in ("a.txt", "a.json"):
        path = write(name, b'["' + b"x" * 10 + b'"]')
        assert "14 bytes, at most 10" in refusal(lambda path=path: read_all(path))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_only_a_few_records_are_in_memory_at_once(write: Callable[..., Path], name: str):
    text, count = "x" * 4000, 2000
    content: Any = {"text": [text] * count} if name == "a.parquet" else f'"{text}"\n' * count
    corpus = open_corpus(f"files:{write(name, content)}")
    del content
    tracemalloc.start()
    _, val = corpus.read(0.5)
    read = sum(len(text) for text in val.texts)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == count * len(text) // 2 > 3 * peak_bytes


def test_without_pyarrow_parquet_names_the_extra(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    path = write("a.parquet", {"text": ["x"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "[data]" in refusal(lambda: read_all(path), MissingExtra)
