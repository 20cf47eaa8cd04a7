"""What arrays a saved item declares, held against the bytes it has, before anything is allocated.

A few kilobytes can claim a terabyte: in a shape, in a chunk, or by decompressing to it. Arrays are
saved as they are (items.py), so an item is never smaller than what it declares. Whether it is that
of the right model, the reader asks later.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import tensorstore

from nanogpt_jax.checkpoint.inventory import Difference
from nanogpt_jax.checkpoint.sidecar import Sidecar
from nanogpt_jax.checkpoint.strict import parse_json

_DATA = "data"
_INDEX = "_METADATA"
_ARRAYS = {"jax.Array", "np.ndarray"}
_LONGEST_INDEX_BYTES = 16 << 20
LONGEST_POSITION_BYTES = 256 << 20  # buffers of a stream are in it
_SHAPE_FILE = ".zarray"
# The values of small arrays are kept in the index of the store, which is compressed.
_INLINE_BYTES = 1 << 20


def find_excess(path: Path, sidecar: Sidecar) -> Difference | None:
    """The first file of a checkpoint that asks for more than it is worth, or None.

    The files must be those of `sidecar`.
    """
    for name, mark in sorted(sidecar.files.items()):
        longest = _longest_bytes(name)
        if longest is not None and mark.size_bytes > longest:
            return Difference(name, f"it has {mark.size_bytes} bytes, at most {longest} are read")
    for item in sidecar.items:
        if item != _DATA:
            sizes = (
                mark.size_bytes
                for name, mark in sidecar.files.items()
                if name.startswith(f"{item}/")
            )
            try:
                _require_bounded(path / item, sum(sizes))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                return Difference(f"{item}/{_INDEX}", f"{error}")
    return None


def _longest_bytes(name: str) -> int | None:
    """What a file of JSON may have; None for the files of arrays."""
    parts = name.split("/")
    if parts[0] == _DATA:
        return LONGEST_POSITION_BYTES
    is_json = parts[-1].startswith("_") or "array_metadatas" in parts
    return _LONGEST_INDEX_BYTES if is_json else None


def _require_bounded(item: Path, size_bytes: int) -> None:
    listed = _arrays_of(parse_json((item / _INDEX).read_bytes()))
    shapes = {key.removesuffix(f"/{_SHAPE_FILE}"): value for key, value in _shapes(item).items()}
    if shapes.keys() != listed:
        raise ValueError("the index and the store hold different arrays")
    declared = sum(_declared_bytes(name, parse_json(text)) for name, text in shapes.items())
    if declared > size_bytes + _INLINE_BYTES:
        raise ValueError(f"arrays of {declared} bytes are declared, the files hold {size_bytes}")


def _arrays_of(index: Any) -> set[str]:
    """The names in Orbax's index of a tree, if it is of the one form that is written here."""
    if not (index["use_ocdbt"] is True and index["use_zarr3"] is False):
        raise ValueError("another store than OCDBT of Zarr 2 is declared")
    names = set()
    for leaf in index["tree_metadata"].values():
        value = leaf["value_metadata"]
        if value["skip_deserialize"] is True:  # an empty branch of the tree
            continue
        if value["value_type"] not in _ARRAYS:
            raise ValueError(f"a value of type {value['value_type']!r:.80} is declared")
        names.add(".".join(str(key["key"]) for key in leaf["key_metadata"]))
    return names


def _shapes(item: Path) -> dict[str, bytes]:
    """What the store says of each array, by its key."""
    base = {"driver": "file", "path": f"{item}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    keys = [key.decode() for key in store.list().result()]
    wanted = [key for key in keys if key.endswith(f"/{_SHAPE_FILE}")]
    reads = {key: store.read(key) for key in wanted}
    return {key: bytes(read.result().value) for key, read in reads.items()}


def _declared_bytes(name: str, array: Any) -> int:
    shape, chunks = array["shape"], array["chunks"]
    numbers = [*shape, *chunks]
    if len(chunks) != len(shape) or not all(type(one) is int and one >= 0 for one in numbers):
        raise ValueError(f"{name} has the shape {shape!r:.80} in chunks of {chunks!r:.80}")
    if array["compressor"] is not None or array["filters"] is not None:
        raise ValueError(f"{name} is compressed, plain values are required")
    if any(chunk > max(whole, 1) for chunk, whole in zip(chunks, shape, strict=True)):
        raise ValueError(f"{name} has the shape {shape} in larger chunks, of {chunks}")
    return math.prod(shape) * jnp.dtype(array["dtype"]).itemsize
