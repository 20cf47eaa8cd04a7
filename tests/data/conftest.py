"""Tokens and files by hand, for the tests of what is made from them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanogpt_jax.data.store import Tokens

BOS = 99


@pytest.fixture(scope="session")
def running_tokens() -> Callable[[int], Tokens]:
    """A function from a length to running text whose token i is i."""

    def make(length: int) -> Tokens:
        one = np.array([length])
        return Tokens(
            np.arange(length, dtype=np.uint32), np.array([0, length]), one, one, np.array([np.nan])
        )

    return make


@pytest.fixture(scope="session")
def document_tokens() -> Callable[[Sequence[Sequence[int]]], Tokens]:
    """A function from documents to their tokens; BOS is 99.

    Document i has 1000 + i nats, and 10 characters and 20 bytes a token.
    """

    def make(documents: Sequence[Sequence[int]]) -> Tokens:
        lengths = np.array([len(document) for document in documents], np.int64)
        ids = [token for document in documents for token in (BOS, *document)]
        return Tokens(
            np.array(ids, np.uint16),
            np.cumsum([0, *(lengths + 1)]),
            10 * lengths,
            20 * lengths,
            1000.0 + np.arange(len(documents)),
        )

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """A function from a name and a content to the path of a file that has it.

    Parquet takes columns, in groups of 100 rows.
    """

    def write_(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.table(content), path, row_group_size=100)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_
