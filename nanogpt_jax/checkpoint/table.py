"""The checkpoints of a run as rows: for `ls`, as JSON or as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanogpt_jax.checkpoint.commit import path_of
from nanogpt_jax.checkpoint.reader import read_sidecars
from nanogpt_jax.checkpoint.sidecar import VALIDATION_LOSS, as_json

_COLUMNS = ("step", "kind", "created", "tokens", "val loss", "items", "size")


def rows(directory: Path) -> list[dict[str, Any]]:
    """The sidecars, oldest first, each with the `size_bytes` of its checkpoint."""
    return [
        as_json(one) | {"size_bytes": _size_bytes(path_of(directory, one.step))}
        for one in read_sidecars(directory)
    ]


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text under a line of titles."""
    lines = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    loss = row["metrics"].get(VALIDATION_LOSS)
    return (
        str(row["step"]),
        "interrupted" if row["interrupted"] else row["kind"],
        row["created"],
        str(row["tokens_seen"]),
        "-" if loss is None else f"{loss:.4f}",
        " ".join(row["items"]),
        f"{row['size_bytes'] / 1e6:.1f} MB",
    )


def _size_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
