"""SHA-256 of what a checkpoint holds, so that two states can be compared without either's model.

The digest is of values (type, shape, numbers), not of files: equal states have equal digests on
any number of devices and under any version of the storage format.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from nanogpt_jax.checkpoint.commit import path_of
from nanogpt_jax.checkpoint.leaves import named_leaves
from nanogpt_jax.checkpoint.reader import read_sidecar
from nanogpt_jax.interface import Params


def digest_step(directory: Path, step: int) -> dict[str, str]:
    """The hexadecimal SHA-256 of every leaf by its path, sorted, and of them all as `total`."""
    from nanogpt_jax.checkpoint import items

    path, saved = path_of(directory, step), read_sidecar(directory, step)
    leaves = items.read_leaves(path, tuple(name for name in saved.items if name != "data"))
    digests = {name: _of_array(leaf) for name, leaf in leaves.items()}
    if saved.full:
        position = json.dumps(items.read_data(path), sort_keys=True, separators=(",", ":"))
        digests["data"] = hashlib.sha256(position.encode()).hexdigest()
    digests = dict(sorted(digests.items()))
    lines = "".join(f"{value}  {name}\n" for name, value in digests.items())
    return digests | {"total": hashlib.sha256(lines.encode()).hexdigest()}


def digest_params(params: Params) -> str:
    """One hexadecimal SHA-256 of parameters that are at hand: names, types, shapes and numbers."""
    leaves = sorted(named_leaves(params).items())
    lines = "".join(f"{_of_array(np.asarray(leaf))}  {name}\n" for name, leaf in leaves)
    return hashlib.sha256(lines.encode()).hexdigest()


def _of_array(leaf: np.ndarray) -> str:
    little = np.ascontiguousarray(leaf.astype(leaf.dtype.newbyteorder("<"), copy=False))
    found = hashlib.sha256(f"{leaf.dtype.name}{leaf.shape}".encode())
    found.update(little.reshape(-1).view(np.uint8).data)  # bfloat16 has no buffer of its own
    return found.hexdigest()
