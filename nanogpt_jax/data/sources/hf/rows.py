"""Rows by the hub's rows API: pages, each kept, and a pause between two that are asked for.

The API serves what is current; it knows no other revision.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from nanogpt_jax.data.corpus import BadRecords
from nanogpt_jax.data.network import hub
from nanogpt_jax.data.sources.hf import cache, listing
from nanogpt_jax.data.sources.hf.selection import Knobs, Selection
from nanogpt_jax.data.sources.records import text_of
from nanogpt_jax.errors import DataError

PAGE_ROWS = 100
PAGE_BYTES = 2**28


def read_rows(selection: Selection, knobs: Knobs, bad: BadRecords) -> Iterator[str]:
    """The texts of the rows in order; null cells are passed over.

    Raises DataError for a page without any usable value, which names page and column.
    """
    assert selection.rows is not None
    start, stop = selection.offset, selection.offset + selection.rows
    pages = _Pages(selection, knobs)
    while start < stop:
        page = pages.read(start, min(PAGE_ROWS, stop - start))
        records = page["rows"][: stop - start]
        if not records:
            return
        place = f"{selection.name}, rows {start} to {start + len(records) - 1}"
        used = 0
        for number, record in enumerate(records, start=start):
            text = _text(record, selection, number, bad)
            if text is not None:
                used += 1
                yield text
        if not used:
            columns = ", ".join(sorted(map(str, records[0]["row"]))) or "none"
            raise DataError(
                f"{place}, have no usable value in the column {selection.column!r}; name another "
                f"with column= (there: {columns})"
            )
        start += len(records)
        total = page.get("num_rows_total")
        if isinstance(total, int) and start >= total:
            return


def _text(
    record: Mapping[str, Any], selection: Selection, number: int, bad: BadRecords
) -> str | None:
    place = f"{selection.name}, row {number}"
    if selection.column in (record.get("truncated_cells") or ()):
        bad(f"{place}, was cut by the rows API", "leave out rows= to stream whole rows")
        return None
    try:
        return text_of(record["row"].get(selection.column))
    except UnicodeEncodeError:
        bad(f"{place}, is not valid Unicode", "correct it")
        return None


class _Pages:
    """Pages from the cache, and from the API with a pause between two requests."""

    def __init__(self, selection: Selection, knobs: Knobs):
        self._selection = selection
        self._knobs = knobs
        self._asked = False

    def read(self, offset: int, length: int) -> Mapping[str, Any]:
        """So many rows from `offset` on, or fewer at the end."""
        chosen = self._selection
        query = {
            "dataset": chosen.dataset,
            "config": chosen.config,
            "split": chosen.split,
            "offset": offset,
            "length": length,
        }
        path = cache.path_of("pages", (*query.values(), self._knobs.endpoint))
        kept = cache.load(path, lambda content: _parse(content, str(path)))
        if kept is not None:
            return kept
        if self._asked:
            time.sleep(self._knobs.pause_seconds)
        self._asked = True
        url = f"{self._knobs.endpoint}/rows?{urlencode(query)}"
        content = hub.ask(url, chosen.subject, limit_bytes=PAGE_BYTES, retries=self._knobs.retries)
        page = _parse(content, url)
        if page["rows"]:  # the end may come to lie further on
            cache.save(path, content)
        return page


def _parse(content: bytes, place: str) -> Mapping[str, Any]:
    page = listing.parse_object(content, place)
    records = page.get("rows")
    if not isinstance(records, list) or not all(
        isinstance(record, dict) and isinstance(record.get("row"), dict) for record in records
    ):
        raise DataError(f"{place} answered no rows; try again later")
    return page
