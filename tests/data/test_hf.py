"""hf://: the grammar, rows in pages, Parquet as a stream, and a hub that misbehaves."""

import io
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.data.corpus import BadRecords, Corpus, Opening, Stream
from nanogpt_jax.data.network import connection, http
from nanogpt_jax.data.sources import parse_source
from nanogpt_jax.data.sources.hf import remote, shards
from nanogpt_jax.data.sources.hf.layout import Shard, choose
from nanogpt_jax.data.sources.hf.selection import Selection, parse, read_knobs
from nanogpt_jax.errors import ConfigError, DataError
from tests import hostile_server as hostile
from tests.hostile_server import HostileServer

pa = pytest.importorskip("pyarrow")
COMMIT = "c0ffee" * 6 + "cafe"


class Hub:
    """A dataset `o/d` on a hostile server: its rows for the rows API, and files of them."""

    def __init__(self, server: HostileServer):
        self.server = server
        self.cells: list[Any] = [f"text {row}" for row in range(250)]
        self.truncated: set[int] = set()
        self.card: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        server.answers["/rows"] = self._answer_rows
        self.describe("main", COMMIT)

    def _answer_rows(self, query: dict[str, str]) -> Any:
        offset, length = int(query["offset"]), int(query["length"])
        rows = [
            {"row_idx": row, "row": {"text": cell, "id": row}, "truncated_cells": cut}
            for row, cell in enumerate(self.cells)
            if (cut := ["text"] * (row in self.truncated)) or True
        ]
        return {"rows": rows[offset : offset + length], "num_rows_total": len(rows)}

    def describe(self, revision: str, commit: str, of: str = "") -> None:
        """Lets the hub know a revision whose files are those below `of`."""

        def answer(_: dict[str, str]) -> Any:
            siblings = [
                {"rfilename": path.removeprefix(of), "size": len(content), "blobId": path}
                for path, content in self.files.items()
                if path.startswith(of)
            ]
            return {"sha": commit, "siblings": siblings, "cardData": self.card}

        self.server.answers[f"/api/datasets/o/d/revision/{revision}"] = answer

    def add(self, path: str, cells: Sequence[Any], *, group: int = 4, column: str = "text") -> str:
        """A Parquet file with `group` rows a group, and its place on the server."""
        return self.add_bytes(path, parquet_bytes(cells, group, column))

    def add_bytes(self, path: str, content: bytes) -> str:
        place = f"/datasets/o/d/resolve/{COMMIT}/{path}"
        self.files[path] = self.server.files[place] = content
        return place


def parquet_bytes(cells: Sequence[Any], group: int, column: str = "text") -> bytes:
    from pyarrow import parquet

    file = io.BytesIO()
    table = pa.table({"id": list(range(len(cells))), column: cells})
    parquet.write_table(table, file, row_group_size=group)
    return file.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub, for a client with little patience, an empty cache and no token."""
    monkeypatch.setattr(http, "RETRIES", http.Retries(5, 0.001))
    monkeypatch.setattr(connection, "WINDOW_SECONDS", 0.2)
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NANOGPT_HF_REQUEST_DELAY_MS", "0")
    monkeypatch.setenv("NANOGPT_HF_RETRY_BASE_DELAY_MS", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with HostileServer().serving() as server:
        monkeypatch.setenv("NANOGPT_HF_ROWS_ENDPOINT", server.url)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield Hub(server)


def open_hf(source: str, *, documents: bool = True, skipped: int = 0) -> Corpus | Stream:
    opened = parse_source(f"hf://{source}")(Opening(documents, BadRecords(skipped)))
    assert isinstance(opened, Corpus | Stream)
    return opened


def texts_of(source: str, **opening: Any) -> list[str]:
    opened = open_hf(source, **opening)
    if isinstance(opened, Stream):
        return [text for text, _ in opened.documents(None)]
    train, val = opened.read(0.1)
    return [*train.texts, *val.texts]


def problem(action: Callable[[], object], *, seconds: float = 5) -> str:
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        action()
    assert time.monotonic() - began < seconds
    message = str(caught.value)
    assert "\n" not in message and "o/d" in unquote(message)
    return message


def test_the_address_says_what_is_read():
    assert parse("//o/d") == Selection("o/d", None, "default", "train", "text", None, 0)
    assert parse(
        "//o-1/d_2.x@v1.0?config=a/b-c&split=test&column=body&rows=7&offset=3"
    ) == Selection("o-1/d_2.x", "v1.0", "a/b-c", "test", "body", 7, 3)
    assert parse("//o/d?limit=5").rows == 5


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("", "hf://ORG/DATASET"),
        ("o/d", "hf://ORG/DATASET"),
        ("//d", "hf://ORG/DATASET"),
        ("//o/d/e", "hf://ORG/DATASET"),
        ("///d", "organisation=''"),
        ("//o/", "dataset=''"),
        ("//o/..", "dataset='..'"),
        ("//o d/e", "organisation='o d'"),
        ("//o/d@", "revision=''"),
        ("//o/d@refs%2Fpr", "revision="),
        ("//o/d@.", "revision='.'"),
        ("//o/d?", "empty"),
        ("//o/d?rows=1&", "empty"),
        ("//o/d?rows", "'rows' has no value"),
        ("//o/d?rows=", "'rows' has no value"),
        ("//o/d?rows=0", "rows='0'"),
        ("//o/d?rows=-1", "rows='-1'"),
        ("//o/d?rows=1e3", "rows='1e3'"),
        ("//o/d?rows=²", "rows='²'"),
        ("//o/d?offset=x", "offset='x'"),
        ("//o/d?rows=1&limit=1", "given twice"),
        ("//o/d?column=a&column=b", "given twice"),
        ("//o/d?colunm=text", "did you mean 'column'"),
        ("//o/d?config=a//b", "config='a//b'"),
        ("//o/d?config=../b", "config='../b'"),
        ("//o/d?split=a/b", "split='a/b'"),
        ("//o/d?column=a%20b", "column='a%20b'"),
    ],
)
def test_an_address_that_means_nothing_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, argument: str, words: str
):
    monkeypatch.setattr(http, "fetch", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ConfigError) as caught:
        parse_source(f"hf:{argument}")
    assert words in str(caught.value) and f"hf:{argument}" in str(caught.value)


def test_all_problems_of_an_address_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse("//o/..?rows=0&x=1&split=")
    assert len(caught.value.problems) == 4


@given(argument=st.text(st.sampled_from("/@?=&.ordw1é "), max_size=20).map("//o/d".__add__))
def test_no_address_ends_in_anything_but_a_selection_or_a_config_error(argument: str):
    try:
        selection = parse(argument)
    except ConfigError:
        return
    written = {*selection.dataset, *selection.config, *selection.split, *selection.column}
    assert not written & set("?=&@é ")


def test_a_wrong_knob_is_refused_by_name():
    wrong = {
        "NANOGPT_HF_REQUEST_DELAY_MS": "fast",
        "NANOGPT_HF_MAX_RETRIES": "-1",
        "NANOGPT_HF_ROWS_ENDPOINT": "nowhere",
    }
    with pytest.raises(ConfigError) as caught:
        read_knobs(wrong)
    assert len(caught.value.problems) == 3
    knobs = read_knobs({"NANOGPT_HF_MAX_RETRIES": "0", "NANOGPT_HF_RETRY_BASE_DELAY_MS": ""})
    assert (knobs.pause_seconds, knobs.retries) == (0.25, http.Retries(0, 1.0))


def test_rows_come_in_pages_of_a_hundred_and_stop_at_the_end(hub: Hub):
    assert texts_of("o/d?rows=1000") == hub.cells
    asked = [(request.query["offset"], request.query["length"]) for request in hub.server.requests]
    assert asked == [("0", "100"), ("100", "100"), ("200", "100")]
    query = hub.server.requests[0].query
    assert (query["dataset"], query["config"], query["split"]) == ("o/d", "default", "train")


def test_so_many_rows_come_as_are_asked_for_from_the_offset_on(hub: Hub):
    assert texts_of("o/d?rows=120&offset=7") == hub.cells[7:127]
    assert [request.query["length"] for request in hub.server.requests] == ["100", "20"]


def test_rows_that_nobody_asked_for_are_left(hub: Hub):
    record = {"row": {"text": "a"}}
    answer = json.dumps({"rows": [record] * 9}).encode()
    hub.server.faults["/rows"] = iter([hostile.status(200, answer)])
    assert texts_of("o/d?rows=4") == ["a"] * 4


def test_cells_become_text(hub: Hub):
    hub.cells = ["é", None, True, 3, 2.5, ["a", "ü"], {"b": None}, " "]
    expected = ["é", "true", "3", "2.5", '["a", "ü"]', '{"b": null}']
    assert texts_of("o/d?rows=9") == expected
    (train, val) = texts_of("o/d?rows=9", documents=False)
    assert train + val == "\n".join([*expected, " "])


def test_what_was_brought_is_not_asked_for_again(hub: Hub, tmp_path: Path):
    first = open_hf("o/d?rows=150")
    asked = len(hub.server.requests)
    again = open_hf("o/d?rows=150", documents=False)
    assert len(hub.server.requests) == asked and not first.running and again.running
    names = [path.name for path in (tmp_path / "cache" / "hf").rglob("*.json")]
    assert len(names) == 3 and all("o-d" in name and len(name) > 64 for name in names)
    open_hf("o/d?rows=200")  # its first page is there
    assert [request.query["offset"] for request in hub.server.requests[asked:]] == ["100"]
    hub.cells[0] = "changed"
    other = open_hf("o/d?rows=10")
    assert other.fingerprint != first.fingerprint != again.fingerprint


def test_a_damaged_cache_is_brought_again(hub: Hub, tmp_path: Path):
    texts_of("o/d?rows=150")
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text('{"rows"')
    assert texts_of("o/d?rows=150") == hub.cells[:150]


def test_interrupted_pages_are_kept(hub: Hub):
    forever = itertools.repeat(hostile.status(500))
    hub.server.faults["/rows"] = itertools.chain([_serve], forever)
    message = problem(lambda: texts_of("o/d?rows=200"))
    assert "offset=100" in message and "in the last of 7 attempts" in message
    hub.server.faults.clear()
    hub.server.requests.clear()
    assert texts_of("o/d?rows=200") == hub.cells[:200]
    assert len(hub.server.requests) == 1


def _serve(handler: hostile.Handler, content: bytes) -> None:
    handler.say(200, content)


@pytest.mark.parametrize(
    "fault",
    [hostile.status(503), hostile.status(429, Retry_After="0"), hostile.reset, hostile.short],
    ids=["503", "429", "reset", "short"],
)
def test_what_passes_is_repaired(hub: Hub, fault: hostile.Fault):
    place = hub.add("train.parquet", hub.cells[:9])
    for path in ("/rows", "/api/datasets/o/d/revision/main", place):
        hub.server.faults[path] = iter([fault] * 3)
    assert texts_of("o/d?rows=20") == hub.cells[:20]
    assert texts_of("o/d") == hub.cells[:9]
    assert not any(next(faults, None) for faults in hub.server.faults.values())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (hostile.status(404, b"no\nsuch"), "404 Not Found: no such"),
        (hostile.status(401, b"who?"), "HF_TOKEN"),
        (hostile.drip, "bytes a second"),
        (hostile.endless, "goes on after"),
        (hostile.redirect("http://example.org/"), "only https"),
    ],
    ids=["404", "401", "drip", "endless", "redirect"],
)
def test_what_stays_names_the_page_or_the_file_in_time(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: hostile.Fault, words: str
):
    monkeypatch.setattr(http, "RETRIES", http.Retries(1, 0.001))
    monkeypatch.setenv("NANOGPT_HF_MAX_RETRIES", "1")
    for module in ("listing.LISTING_BYTES", "rows.PAGE_BYTES", "shards.RANGE_BYTES"):
        monkeypatch.setattr(f"nanogpt_jax.data.sources.hf.{module}", 20_000)
    place = hub.add("train.parquet", hub.cells)
    paths = {"rows=5": "/rows", "split=train": "/api/datasets/o/d/revision/main", "offset=1": place}
    for query, path in paths.items():
        hub.server.faults = {path: itertools.repeat(fault)}
        message = problem(lambda query=query: texts_of(f"o/d?{query}"))
        assert words in message and path in message
    assert not list(tmp_path.rglob("*.json"))


def test_a_page_without_a_usable_value_names_the_column(hub: Hub):
    hub.cells[100:200] = [None] * 100
    message = problem(lambda: texts_of("o/d?rows=250"))
    assert "rows 100 to 199" in message and "'text'" in message and "id, text" in message
    assert "'body'" in problem(lambda: texts_of("o/d?rows=250&column=body"))


def test_rows_without_text_are_refused_until_there_are_others(hub: Hub):
    hub.cells = ["", " "]
    assert "no text" in problem(lambda: texts_of("o/d?rows=2"))
    assert "no text" in problem(lambda: texts_of("o/d?rows=2&offset=2"))
    hub.cells += ["a"]
    assert texts_of("o/d?rows=2&offset=2") == ["a"]


def test_an_answer_that_is_not_rows_is_refused_and_not_kept(hub: Hub, tmp_path: Path):
    for answer in (b"<html>", b"[]", b'{"rows": 3}', b'{"rows": [{"row": 1}]}', b"[" * 10_000):
        hub.server.faults["/rows"] = itertools.repeat(hostile.status(200, answer))
        with pytest.raises(DataError, match="answered"):
            texts_of("o/d?rows=2")
    assert not list(tmp_path.rglob("*.json"))


def test_cells_that_the_api_cut_are_bad_records(hub: Hub):
    hub.truncated = {3}
    assert "row 3" in problem(lambda: texts_of("o/d?rows=5"))
    assert texts_of("o/d?rows=5", skipped=1) == [*hub.cells[:3], hub.cells[4]]
    assert "row 3" in problem(lambda: texts_of("o/d?rows=5"))  # the gap was not kept


def test_the_pause_lies_between_two_requests(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    monkeypatch.setenv("NANOGPT_HF_REQUEST_DELAY_MS", "40")
    monkeypatch.setattr("nanogpt_jax.data.sources.hf.rows.time.sleep", waits.append)
    texts_of("o/d?rows=250")
    assert waits == [0.04, 0.04]


def test_the_token_goes_to_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    hub.add("train.parquet", ["a"])
    assert texts_of("o/d") == ["a"]
    texts_of("o/d?rows=2")
    sent = {request.headers.get("authorization") for request in hub.server.requests}
    assert sent == {"Bearer secret"}


def test_offline_ends_in_one_line_unless_the_rows_are_there(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    kept = texts_of("o/d?rows=5")
    hub.server.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert texts_of("o/d?rows=5") == kept
    for query in ("?rows=6", ""):
        assert "HF_HUB_OFFLINE" in problem(lambda query=query: texts_of(f"o/d{query}"))
    assert hub.server.requests == []


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


def test_a_server_that_ignores_ranges_is_read_all_the_same(hub: Hub):
    place = hub.add("train.parquet", hub.cells)
    hub.server.faults[place] = itertools.repeat(hostile.ignore_range)
    assert texts_of("o/d") == hub.cells


def test_a_damaged_file_is_named(hub: Hub):
    for damage in (b"", b"PAR1" * 9, parquet_bytes(["a" * 99], 1)[:-9] + b"\0" * 9):
        hub.add_bytes("data/train.parquet", damage)
        message = problem(lambda: texts_of("o/d"))
        assert "data/train.parquet" in message and "damaged" in message


def test_damage_inside_a_page_with_a_checksum_is_named_and_no_false_text_is_given(hub: Hub):
    from pyarrow import parquet

    file = io.BytesIO()
    table = pa.table({"text": [f"some text {row}" for row in range(99)]})
    parquet.write_table(
        table, file, compression="none", use_dictionary=False, write_page_checksum=True
    )
    assert file.getvalue().count(b"some text 50") == 1
    hub.add_bytes("train.parquet", file.getvalue().replace(b"some text 50", b"some text 5X"))
    assert "train.parquet" in problem(lambda: texts_of("o/d"))


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


def test_rows_of_a_revision_are_those_of_its_files(hub: Hub):
    """The rows API would answer with the rows of another."""
    hub.add("train.parquet", ["a", None, "b", "c"])
    hub.describe("v1", COMMIT)
    assert texts_of("o/d@v1?rows=3") == ["a", "b"]
    asked = len(hub.server.requests)
    assert texts_of("o/d@v1?rows=3") == ["a", "b"] and len(hub.server.requests) == asked
    assert hub.server.asked("/rows") == []


def test_without_parquet_of_its_own_the_hubs_conversion_is_read(hub: Hub):
    place = hub.add("converted/default/train/0000.parquet", ["a"])
    hub.files["data.csv"] = b"text\na\n"
    hub.describe("main", COMMIT, of="data")
    hub.describe("refs%2Fconvert%2Fparquet", COMMIT, of="converted/")
    served = place.replace("converted/", "")
    hub.server.files[served] = hub.server.files[place]
    assert texts_of("o/d") == ["a"]
    hub.describe("v1", COMMIT, of="data")
    assert "no Parquet file" in problem(lambda: texts_of("o/d@v1"))


def test_a_split_that_is_not_there_is_answered_with_what_is(hub: Hub):
    hub.add("data/train.parquet", ["a"])
    hub.card = {"configs": [{"config_name": "small"}]}
    message = problem(lambda: texts_of("o/d?split=test"))
    assert "split=test" in message and "data/train.parquet" in message and "small" in message


def test_a_hub_that_describes_no_dataset_is_refused(hub: Hub):
    for answer in ({}, {"sha": "1", "siblings": [3]}, {"sha": "1", "siblings": [{}]}, []):
        content = json.dumps(answer).encode()
        path = "/api/datasets/o/d/revision/main"
        hub.server.faults[path] = itertools.repeat(hostile.status(200, content))
        with pytest.raises(DataError, match=path):
            texts_of("o/d")


LAYOUTS = [
    # config, split, files in it, files beside it
    (
        "default",
        "train",
        ["data/train-00000-of-00001-0a1b.parquet"],
        ["data/test-00000-of-00001.parquet"],
    ),
    ("default", "train", ["a.parquet", "b/c.parquet"], []),
    ("default", "validation", ["data/val.parquet", "dev/0.parquet"], ["train.parquet"]),
    (
        "default",
        "train_sft",
        ["data/train_sft-00000-of-00001.parquet"],
        ["data/train_gen-00000-of-00001.parquet"],
    ),
    ("en", "test", ["en/test/0000.parquet"], ["de/test/0000.parquet", "en/train/0000.parquet"]),
    ("en", "train", ["en/partial-train/0000.parquet"], ["en/test/0000.parquet"]),
    ("en", "sft", ["en/partial-sft/0000.parquet"], ["en/partial-dpo/0000.parquet"]),
    ("sample/10BT", "train", ["sample/10BT/000.parquet"], ["sample/100BT/000.parquet"]),
    ("absent", "train", [], ["train.parquet"]),
    ("default", "test", [], ["a.parquet"]),
]


@pytest.mark.parametrize(("config", "split", "inside", "beside"), LAYOUTS)
def test_files_are_found_by_their_names(
    config: str, split: str, inside: list[str], beside: list[str]
):
    files = [Shard(path, 1, "") for path in sorted([*inside, *beside])]
    assert [shard.path for shard in choose(files, (), config, split)] == sorted(inside)


@pytest.mark.parametrize(
    ("entry", "chosen"),
    [
        ({"data_files": "data/*.parquet"}, ["data/a1.parquet"]),
        ({"data_files": ["data/**/*.parquet"]}, ["data/a1.parquet", "data/deep/b.parquet"]),
        ({"data_files": [{"split": "train", "path": ["x", "data/?[0-9].*"]}]}, ["data/a1.parquet"]),
        ({"data_files": [{"split": "test", "path": "**"}]}, []),
        ({"data_files": "*.parquet", "data_dir": "data/deep"}, ["data/deep/b.parquet"]),
        ({"data_dir": "data"}, ["data/a1.parquet", "data/deep/b.parquet"]),
        ({"data_files": "data/[z-a]"}, []),
        ({"data_files": "data/[!b]1.parquet"}, ["data/a1.parquet"]),
    ],
)
def test_a_card_goes_before_names(entry: dict[str, Any], chosen: list[str]):
    paths = ["data/a1.parquet", "data/deep/b.parquet", "train.parquet"]
    configs = [{"config_name": "other", "data_files": "**"}, {"config_name": "c", **entry}]
    found = choose([Shard(path, 1, "") for path in paths], configs, "c", "train")
    assert [shard.path for shard in found] == chosen


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
