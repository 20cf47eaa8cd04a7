"""The records of a file as texts: .txt, .jsonl, .json, .csv and .parquet.

A record that cannot be used is reported with its place, and reading goes on; a file that cannot be
read at all is an error. Files are found elsewhere, and nothing here splits or orders texts.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from nanogpt_jax.data.sources.found import FoundFile, Report
from nanogpt_jax.errors import DataError, MissingExtra

COLUMN = "text"
# What a record, or a file that is one JSON value, may have: it is held in memory.
MAX_BYTES = 2**30
PARQUET_ROWS_AT_ONCE = 256
SHOWN_COLUMNS = 8
NAME_A_COLUMN = "name a column of text with ?column=NAME"

# A cell with the place that errors name: a text, or a value that text_of turns into one.
Cells = Iterator[tuple[str, Any]]


def read_texts(file: FoundFile, column: str | None, report: Report) -> Iterator[str]:
    """The texts of a file's records, blank ones left out; `column` None: see `SUFFIXES`."""
    with file.open() as opened:
        for place, cell in _READERS[file.path.suffix.lower()](opened, file, column, report):
            try:
                text = text_of(cell)
            except UnicodeEncodeError:
                report(f"{place}, is not valid Unicode", "correct it")
            except TypeError:
                report(f"{place}, is no text but a {type(cell).__name__}", NAME_A_COLUMN)
            else:
                if text and not text.isspace():
                    yield text


def import_parquet(feature: str) -> ModuleType:
    """pyarrow.parquet, or MissingExtra saying that `feature` needs it."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(feature, "data") from error
    return parquet


def text_of(cell: Any) -> str | None:
    """The text of a cell: strings as they are, None for null, all else as JSON writes it.

    Raises TypeError for what JSON cannot write, and UnicodeEncodeError for half a character.
    """
    if cell is None:
        return None
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
    text.encode()
    return text


def _read_txt(opened: BinaryIO, file: FoundFile, _: str | None, report: Report) -> Cells:
    content = _hold(opened, file, "text:PATH reads running text")
    try:
        yield str(file.path), content.decode()
    except UnicodeDecodeError as error:
        report(
            f"{file.path} is not UTF-8 at byte {error.start}",
            "convert it, for example with iconv -t utf-8",
        )


def _read_jsonl(opened: BinaryIO, file: FoundFile, column: str | None, report: Report) -> Cells:
    for number, line in enumerate(opened, start=1):
        if not line.strip():
            continue
        place = f"{file.path}, line {number}"
        try:
            value = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            report(f"{place}, is not JSON ({_reason(error)})", "correct the line")
        else:
            yield from _cell(value, place, column or COLUMN, report)


def _read_json(opened: BinaryIO, file: FoundFile, column: str | None, report: Report) -> Cells:
    content = _hold(opened, file, "a .jsonl file may have more")
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file.path} is not JSON ({_reason(error)}); correct it, or rename it to .jsonl if "
            "each of its lines is a value"
        ) from error
    if not isinstance(values, list):
        raise DataError(
            f"{file.path} holds no array but a {type(values).__name__}; an array of strings or "
            "of objects is required"
        )
    for number, value in enumerate(values, start=1):
        yield from _cell(value, f"{file.path}, element {number}", column or COLUMN, report)


def _read_csv(opened: BinaryIO, file: FoundFile, column: str | None, report: Report) -> Cells:
    csv.field_size_limit(MAX_BYTES)  # else 128 KiB, which documents exceed
    names: list[str] = []
    # A byte that is not UTF-8 becomes half a character, so that its row alone is refused.
    with io.TextIOWrapper(opened, "utf-8-sig", errors="surrogateescape", newline="") as lines:
        rows = csv.reader(lines, strict=True)
        while True:
            problem = None
            try:
                row = next(rows, None)
            except csv.Error as error:
                row, problem = [], error
            place = f"{file.path}, line {rows.line_num}"
            if row is None:
                return
            if problem:
                report(f"{place}, is not CSV ({problem})", "correct the row")
            elif column is None:
                yield place, ",".join(row)
            elif not names:
                names = row
                _require_column(column, names, file.path)
            elif row:
                yield from _cell(dict(zip(names, row, strict=False)), place, column, report)


def _read_parquet(opened: BinaryIO, file: FoundFile, column: str | None, report: Report) -> Cells:
    parquet = import_parquet(f"reading {file.path}")
    from pyarrow import ArrowException

    column = column or COLUMN
    row = 0
    try:
        table = parquet.ParquetFile(opened)
        _require_column(column, table.schema_arrow.names, file.path)
        batches = table.iter_batches(PARQUET_ROWS_AT_ONCE, columns=[column])
        cells = itertools.chain.from_iterable(batch.column(0) for batch in batches)
        for row, cell in enumerate(cells, start=1):
            place = f"{file.path}, row {row}"
            try:
                value = cell.as_py()
            except UnicodeDecodeError:
                report(f"{place}, is not UTF-8", "correct it")
            else:
                yield place, value
    except (ArrowException, OSError) as error:
        raise DataError(
            f"{file.path} cannot be read as Parquet after row {row} ({_first_line(error)}); "
            "bring the file again"
        ) from error


_READERS: dict[str, Callable[[BinaryIO, FoundFile, str | None, Report], Cells]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
# A text file is one document; a line, element or row of the others is. Without a column, JSON and
# Parquet have theirs in `COLUMN`, and CSV has no header: its columns are joined by commas.
SUFFIXES = tuple(_READERS)


def _cell(value: Any, place: str, column: str, report: Report) -> Cells:
    """The cell of a record: a bare string is its own, an object has it in `column`."""
    if isinstance(value, str):
        yield place, value
    elif not isinstance(value, dict):
        report(f"{place}, is of type {type(value).__name__}", "make it a string or an object")
    elif column not in value:
        report(f"{place}, has no column {column!r} but {_shown(value)}", NAME_A_COLUMN)
    else:
        yield place, value[column]


def _require_column(column: str, names: Collection[str], path: Path) -> None:
    if column not in names:
        raise DataError(f"{path} has no column {column!r} but {_shown(names)}; {NAME_A_COLUMN}")


def _shown(names: Collection[str]) -> str:
    first = [repr(name) for name in list(names)[:SHOWN_COLUMNS]]
    more = [f"{len(names) - SHOWN_COLUMNS} more"] if len(names) > SHOWN_COLUMNS else []
    return ", ".join(first + more) or "none at all"


def _hold(opened: BinaryIO, file: FoundFile, remedy: str) -> bytes:
    """The content of a file that can only be read whole."""
    if file.size_bytes > MAX_BYTES:
        raise DataError(
            f"{file.path} has {file.size_bytes} bytes, at most {MAX_BYTES} (1 GiB) are held in "
            f"memory; split the file ({remedy})"
        )
    return opened.read()


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, at character {error.pos + 1}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
