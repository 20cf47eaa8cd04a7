"""The whole of hf://: Parquet files as a stream that goes on where it was."""

import io
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.data.corpus import BadRecords, Stream
from nanogpt_jax.data.network import http
from nanogpt_jax.data.sources.hf import remote, shards
from nanogpt_jax.data.sources.hf.layout import Shard
from nanogpt_jax.data.sources.hf.selection import Selection
from tests.data.hf.hub import COMMIT, Hub, open_hf, parquet_bytes, problem, texts_of

pa = pytest.importorskip("pyarrow")


def test_a_stream_has_the_cells_of_its_files_in_order(hub: Hub):
    hub.add("data/train-00001-of-00002.parquet", ["d", None, " ", "e"])
    hub.add("data/train-00000-of-00002.parquet", ["a", "b", "c"], group=2)
    hub.add("data/test-00000-of-00001.parquet", ["z"])
    stream = open_hf("o/d")
    assert isinstance(stream, Stream) and stream.identity == "hf://o/d"
    assert [text for text, _ in stream.documents(None)] == ["a", "b", "c", "d", "e"]
    assert texts_of("o/d?split=test") == ["z"]
    assert texts_of("o/d?offset=2") == ["c", "d", "e"]
    assert texts_of("o/d?offset=4") == ["e"]


def test_typed_columns_become_text_and_others_are_bad_records(hub: Hub):
    hub.add("a/train.parquet", [[1, 2], None, []])
    hub.add("b/train.parquet", [True, False])
    hub.add("c/train.parquet", [b"\xff", b"a"])
    assert texts_of("o/d?config=a") == ["[1, 2]", "[]"]
    assert texts_of("o/d?config=b") == ["true", "false"]
    message = problem(lambda: texts_of("o/d?config=c"))
    assert "c/train.parquet, group 0, row 0" in message and "binary" in message


def test_a_string_that_is_not_utf8_is_a_bad_record(hub: Hub):
    binary = pa.array([b"a", b"\xff", b"c"])
    broken = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    hub.add("train.parquet", broken)
    assert "row 1, is not valid Unicode" in problem(lambda: texts_of("o/d"))
    assert texts_of("o/d", skipped=1) == ["a", "c"]
    assert texts_of("o/d?offset=2") == ["c"]  # a row that nobody asked for is not bad


@given(
    cells=st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=9),
    cut=st.integers(1, 3),
)
def test_a_stream_goes_on_exactly_where_it_was(cells: list[str | None], cut: int):
    """Around a group of its own that no draw can leave without a usable value."""
    snapshot = shards.Snapshot(COMMIT, [Shard("a", 0, ""), Shard("b", 0, "")])
    groups = [[cell, "x"] for cell in cells]
    content = parquet_bytes(list(itertools.chain.from_iterable(groups)), group=2 * cut)

    def fetch(url: str, *, byte_range: tuple[int, int], **_: Any) -> bytes:
        return content[slice(*byte_range)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "fetch", fetch)
        sized = snapshot._replace(shards=[s._replace(size_bytes=len(content)) for s in snapshot[1]])
        selection, bad = Selection("o/d"), BadRecords()
        whole = list(shards.read_cells(selection, sized, None, bad))
        assert [text for text, _ in whole] == [cell for group in groups for cell in group] * 2
        for passed, (_, position) in enumerate(whole, start=1):
            rest = list(shards.read_cells(selection, sized, position, bad))
            assert rest == whole[passed:]
            moved = selection._replace(offset=passed)
            assert list(shards.read_cells(moved, sized, None, bad)) == rest


def test_a_position_is_json_and_names_file_group_and_row(hub: Hub):
    hub.add("train-00000-of-00002.parquet", ["a", "b", "c"], group=2)
    hub.add("train-00001-of-00002.parquet", ["d"])
    stream = open_hf("o/d")
    assert isinstance(stream, Stream)
    positions = [json.loads(json.dumps(position)) for _, position in stream.documents(None)]
    assert positions[2] == {"file": 0, "group": 1, "row": 1}
    hub.server.requests.clear()
    assert [text for text, _ in stream.documents(positions[2])] == ["d"]
    assert [text for text, _ in stream.documents(positions[3])] == []


def test_only_the_column_that_is_wanted_is_brought(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    from pyarrow import parquet

    monkeypatch.setattr(remote, "BLOCK_BYTES", 2**12)
    file = io.BytesIO()
    wide = [f"{row:04}" * 500 for row in range(500)]
    columns = {"text": [str(row) for row in range(500)], "wide": wide}
    parquet.write_table(pa.table(columns), file, compression="none", use_dictionary=False)
    content = file.getvalue()
    place = hub.add_bytes("train.parquet", content)
    assert texts_of("o/d") == columns["text"]
    ranges = [request.headers["range"] for request in hub.server.asked(place)]
    spans = [[int(end) for end in span.removeprefix("bytes=").split("-")] for span in ranges]
    assert sum(last + 1 - first for first, last in spans) < len(content) / 4


def test_a_file_without_the_column_names_those_that_it_has(hub: Hub):
    hub.add("train.parquet", ["a"], column="body")
    message = problem(lambda: texts_of("o/d"))
    assert "'text'" in message and "id, body" in message
    assert texts_of("o/d?column=body") == ["a"]


def test_a_group_without_a_usable_value_names_file_group_and_column(hub: Hub):
    hub.add("train.parquet", ["a", None, None, None], group=2)
    message = problem(lambda: texts_of("o/d"))
    assert "train.parquet, group 1" in message and "'text'" in message


def test_the_fingerprint_follows_commit_files_and_what_is_selected(hub: Hub):
    hub.add("train.parquet", ["a"])
    hub.describe("v1", "beef")
    sources = ["o/d", "o/d@v1", "o/d?offset=1", "o/d?column=id"]
    prints = [open_hf(source).fingerprint for source in sources]
    hub.add("train.parquet", ["a longer one"])
    assert len({*prints, open_hf("o/d").fingerprint}) == 5


@given(
    content=st.binary(min_size=1, max_size=200),
    reads=st.lists(st.tuples(st.integers(0, 250), st.integers(-1, 99)), max_size=9),
)
def test_a_remote_file_reads_like_a_local_one(content: bytes, reads: list[tuple[int, int]]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "BLOCK_BYTES", 16)
        local = io.BytesIO(content)
        with remote.open_remote(len(content), lambda start, stop: content[start:stop]) as file:
            assert file.seek(0, io.SEEK_END) == len(content)
            for place, size in reads:
                assert file.seek(place) == local.seek(place)
                assert file.read(size) == local.read(size)
                assert file.tell() == local.tell()
