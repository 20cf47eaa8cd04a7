"""Parquet files of the hub, read where they are: one column, one row group after the other.

A position is a file, a group in it and a row in that, so that reading goes on exactly where it
was. The files are those of one commit, which nothing can change.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from nanogpt_jax.data.corpus import BadRecords, Stream
from nanogpt_jax.data.network import hub
from nanogpt_jax.data.sources.hf import listing
from nanogpt_jax.data.sources.hf.layout import Shard
from nanogpt_jax.data.sources.hf.listing import Snapshot
from nanogpt_jax.data.sources.hf.remote import open_remote
from nanogpt_jax.data.sources.hf.selection import Selection
from nanogpt_jax.data.sources.records import import_parquet, text_of
from nanogpt_jax.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ROWS_AT_ONCE = 256
# Where a server ignores ranges, all before the range comes too: as much of it is borne.
RANGE_BYTES = 2**26


class Position(NamedTuple):
    """The next row: its file, its group in the file, its place in the group."""

    file: int = 0
    group: int = 0
    row: int = 0


def open_stream(selection: Selection, identity: str, bad: BadRecords) -> Stream:
    """The documents of a selection: every cell that has text in it."""
    import_parquet(f"streaming {selection.name}")
    snapshot = listing.find(selection)

    def documents(position: Any) -> Iterator[tuple[str, Any]]:
        start = Position(**position) if position else None
        for text, after in read_cells(selection, snapshot, start, bad):
            if text and not text.isspace():
                yield text, after._asdict()

    key = json.dumps([selection, snapshot])
    return Stream(identity, hashlib.sha256(key.encode()).hexdigest(), documents)


def read_rows(selection: Selection, bad: BadRecords) -> Iterator[str]:
    """The texts of so many rows as are selected."""
    import_parquet(f"reading {selection.name}")
    cells = read_cells(selection, listing.find(selection), None, bad)
    return (text for text, _ in itertools.islice(cells, selection.rows) if text is not None)


def read_cells(
    selection: Selection, snapshot: Snapshot, start: Position | None, bad: BadRecords
) -> Iterator[tuple[str | None, Position]]:
    """The text of every row, None where it has none, and the position after it.

    `start` None is the selection's offset.
    """
    passed_over = selection.offset if start is None else 0
    file, group, row = start or Position()
    for number in range(file, len(snapshot.shards)):
        with _open(selection, snapshot, snapshot.shards[number]) as opened:
            for index in range(group, opened.num_row_groups):
                rows = opened.metadata.row_group(index).num_rows
                first = row + min(passed_over, rows)
                passed_over -= first - row
                if first < rows:
                    place = f"{selection.name}, {snapshot.shards[number].path}, group {index}"
                    texts = _read_group(opened, index, first, place, selection.column, bad)
                    for count, text in enumerate(texts, start=first + 1):
                        yield text, Position(number, index, count)
                row = 0
        group = 0


@contextlib.contextmanager
def _open(selection: Selection, snapshot: Snapshot, shard: Shard) -> Iterator[ParquetFile]:
    parquet = import_parquet(f"reading {selection.name}")
    from pyarrow import ArrowException

    place = f"{selection.name}, {shard.path}"
    url = listing.url_of(selection, snapshot, shard)
    subject = selection.subject._replace(name=place)

    def fetch(start: int, stop: int) -> bytes:
        return hub.ask(url, subject, limit_bytes=RANGE_BYTES, byte_range=(start, stop))

    try:
        with (
            open_remote(shard.size_bytes, fetch) as file,
            parquet.ParquetFile(file, page_checksum_verification=True) as opened,
        ):
            names = opened.schema_arrow.names
            if selection.column not in names:
                raise DataError(
                    f"{place}, has no column {selection.column!r}; name another with column= "
                    f"(there: {', '.join(names)})"
                )
            yield opened
    except (ArrowException, OSError) as error:
        raise DataError(
            f"{place}, is damaged ({str(error).partition(chr(10))[0]}); tell its owner, or choose "
            "another revision"
        ) from error


def _read_group(
    opened: ParquetFile, group: int, first: int, place: str, column: str, bad: BadRecords
) -> Iterator[str | None]:
    """The text of every row from `first` on; DataError at the end of a group without any."""
    used = 0
    batches = opened.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column])
    for row, cell in enumerate(itertools.chain.from_iterable(b.column(0) for b in batches)):
        text, problem = None, None
        try:
            text = text_of(cell.as_py())
        except UnicodeError:
            problem = "is not valid Unicode"
        except TypeError:
            problem = f"is no text but {cell.type}"
        used += text is not None
        if row >= first:
            if problem is not None:
                bad(f"{place}, row {row}, {problem}", "name a column of text with column=")
            yield text
    if not used:
        raise DataError(
            f"{place}, has no usable value in the column {column!r}; name another with column="
        )
