"""Trees of arrays on disk: the one file of the project that knows Orbax.

Whole arrays are written from the host, so that any number of devices can read what any other has
saved. It serves one process, and knows neither steps nor sidecars; atomicity is commit.py's.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from nanogpt_jax import errors

_DATA = "data"


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of any tree by path; a tuple and the list it is read back as have equal paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def snapshot(tree: Any) -> Any:
    """A copy that no later computation can touch: on the host, but for random keys."""
    # On CPU np.asarray would share the buffer, and the next step could not reuse it.
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if _is_key(leaf) else np.array(leaf), tree)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def write(path: Path, trees: Mapping[str, Any], data: Mapping[str, Any] | None) -> None:
    """Writes named trees of arrays, and JSON as the item `data`, to the new directory `path`."""
    items: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
    if data is not None:
        items[_DATA] = ocp.args.JsonSave(dict(data))
    with _orbax(ocp.CompositeCheckpointHandler) as checkpointer:
        checkpointer.save(path, args=ocp.args.Composite(**items))
    # Orbax's mark names the folder it wrote to, with the path of this machine; ours is the sidecar.
    for mark in list(path.rglob("commit_success.txt")):
        mark.unlink()


def read(path: Path, abstract: dict[str, Any]) -> dict[str, Any]:
    """The named trees, each leaf in the sharding of its abstract leaf, or else on one device.

    Raises errors.Mismatch naming the first leaf whose presence, shape or dtype differs, and
    errors.NoCheckpoint if files are damaged.
    """
    _require_equal(path, abstract)
    placed = jax.tree.map(_place, abstract)
    items = {name: ocp.args.StandardRestore(tree) for name, tree in placed.items()}
    with _readable(path), _orbax(ocp.CompositeCheckpointHandler) as checkpointer:
        trees = checkpointer.restore(path, args=ocp.args.Composite(**items))
    return {name: trees[name] for name in abstract}


def _place(leaf: Any) -> jax.ShapeDtypeStruct:
    # Without a sharding Orbax would want the devices of the process that saved.
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def read_data(path: Path) -> dict[str, Any]:
    """The JSON of the item `data`."""
    item = ocp.args.Composite(data=ocp.args.JsonRestore())
    with _readable(path), _orbax(ocp.CompositeCheckpointHandler) as checkpointer:
        return checkpointer.restore(path, args=item)[_DATA]


def read_leaves(path: Path, items: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Every array of the named items by `item/path`, without knowing the model; keys as numbers."""
    leaves = {}
    for item in items:
        tree = _saved_tree(path, item)
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        if named_leaves(tree):
            with _readable(path), _orbax(ocp.PyTreeCheckpointHandler) as checkpointer:
                arguments = ocp.args.PyTreeRestore(restore_args=arguments)
                leaves[item] = checkpointer.restore(path / item, args=arguments)
    return named_leaves(leaves)


def _saved_tree(path: Path, item: str) -> Any:
    with _readable(path), _orbax(ocp.StandardCheckpointHandler) as checkpointer:
        metadata = checkpointer.metadata(path / item).item_metadata
        if metadata is None:
            raise ValueError(f"the index of {item} is missing or damaged")
        return metadata.tree


def _require_equal(path: Path, abstract: dict[str, Any]) -> None:
    # Orbax would cast a dtype without a word, and its sentence for a shape names no remedy.
    saved = named_leaves({item: _saved_tree(path, item) for item in abstract})
    required = named_leaves(abstract)
    for name in sorted(saved.keys() | required.keys()):
        found, wanted = _shape(saved.get(name)), _shape(required.get(name))
        if found != wanted:
            raise errors.Mismatch(
                f"{path} has {found} at {name}, {wanted} is required: "
                "use the config that the run was trained with, or another run directory"
            )


def _shape(leaf: Any) -> str:
    if leaf is None:
        return "nothing"
    if _is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:  # the ways in which Orbax meets bad files
        raise errors.NoCheckpoint(
            f"{path} cannot be read ({error}): rename it to put it aside, and use another step"
        ) from error


def _orbax(handler: type[ocp.CheckpointHandler]) -> ocp.Checkpointer:
    logging.getLogger("absl").addFilter(_is_not_orbax)
    return ocp.Checkpointer(handler())


def _is_not_orbax(record: logging.LogRecord) -> bool:
    # It tells each save in a hundred lines, and each error twice before it raises it.
    return "orbax" not in record.pathname
