"""Some rows of hf://: brought in pages from the rows API, and kept."""

import itertools
import json
from pathlib import Path

import pytest

from nanogpt_jax.errors import DataError
from tests import hostile_server as hostile
from tests.data.hf.hub import COMMIT, Hub, open_hf, problem, texts_of


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


def test_rows_of_a_revision_are_those_of_its_files(hub: Hub):
    """The rows API would answer with the rows of another."""
    hub.add("train.parquet", ["a", None, "b", "c"])
    hub.describe("v1", COMMIT)
    assert texts_of("o/d@v1?rows=3") == ["a", "b"]
    asked = len(hub.server.requests)
    assert texts_of("o/d@v1?rows=3") == ["a", "b"] and len(hub.server.requests) == asked
    assert hub.server.asked("/rows") == []
