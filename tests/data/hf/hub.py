"""A hub that serves the dataset `o/d`, and what tests ask of it."""

import io
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import pytest

from nanogpt_jax.data.corpus import BadRecords, Corpus, Opening, Stream
from nanogpt_jax.data.sources import parse_source
from nanogpt_jax.errors import DataError
from tests.hostile_server import HostileServer

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
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    table = pyarrow.table({"id": list(range(len(cells))), column: cells})
    parquet.write_table(table, file, row_group_size=group)
    return file.getvalue()


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
