"""hf:// with a hub that misbehaves: what passes is repaired, what stays is named, in time."""

import io
import itertools
import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from nanogpt_jax.data.network import http
from nanogpt_jax.errors import DataError
from tests import hostile_server as hostile
from tests.data.hf.hub import Hub, parquet_bytes, problem, texts_of


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
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    table = pyarrow.table({"text": [f"some text {row}" for row in range(99)]})
    parquet.write_table(
        table, file, compression="none", use_dictionary=False, write_page_checksum=True
    )
    assert file.getvalue().count(b"some text 50") == 1
    hub.add_bytes("train.parquet", file.getvalue().replace(b"some text 50", b"some text 5X"))
    assert "train.parquet" in problem(lambda: texts_of("o/d"))


def test_a_hub_that_describes_no_dataset_is_refused(hub: Hub):
    for answer in ({}, {"sha": "1", "siblings": [3]}, {"sha": "1", "siblings": [{}]}, []):
        content = json.dumps(answer).encode()
        path = "/api/datasets/o/d/revision/main"
        hub.server.faults[path] = itertools.repeat(hostile.status(200, content))
        with pytest.raises(DataError, match=path):
            texts_of("o/d")
