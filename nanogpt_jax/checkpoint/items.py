"""Trees of arrays on disk: the one file of the project that knows Orbax.

It is imported where arrays are first read or written: Orbax takes a quarter of a second, and who
looks at a run, or is refused one, needs none.

Whole arrays are written from the host, so that any number of devices can read what any other has
saved. One process writes, of several the first; each reads on its own. It knows neither steps nor
sidecars; atomicity is commit.py's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from nanogpt_jax import errors
from nanogpt_jax.checkpoint.declared import LONGEST_POSITION_BYTES
from nanogpt_jax.checkpoint.leaves import is_key, named_leaves
from nanogpt_jax.checkpoint.strict import parse_json, read_text

_DATA = "data"
_POSITION = "data/metadata"
# Several runs may save from threads of one process, and Orbax's event loops have waited for each
# other for ever.
_WRITING = threading.Lock()


def write(path: Path, trees: Mapping[str, Any], data: Mapping[str, Any] | None) -> None:
    """Writes named trees of arrays, and JSON as the item `data`, to the new directory `path`."""
    items = {name: ocp.args.PyTreeSave(tree) for name, tree in trees.items()}
    with _WRITING, _orbax(lambda: _handlers_of_plain(*trees)) as checkpointer:
        checkpointer.save(path, args=ocp.args.Composite(**items))
    # Orbax's mark names the folder it wrote to, with the path of this machine; ours is the sidecar.
    for mark in list(path.rglob("commit_success.txt")):
        mark.unlink()
    if data is not None:  # by hand, for Orbax may write JSON before it has made the folder
        (path / _DATA).mkdir()
        (path / _POSITION).write_text(json.dumps(data, allow_nan=False), encoding="utf-8")


def _handlers_of_plain(*names: str) -> ocp.CheckpointHandler:
    """Of trees that are not compressed: an item then needs no more memory than it has bytes."""
    handlers: dict[str, Any] = {
        name: ocp.PyTreeCheckpointHandler(
            use_compression=False,
            multiprocessing_options=_by_itself(),
            **_one_writer(),
        )
        for name in names
    }
    return _composite(**handlers)


def _one_writer() -> dict[str, Any]:
    """What makes a handler write all of a tree, though other processes hold copies of a key.

    Orbax would leave half of it to them, and miss what they wrote.
    """
    if jax.process_count() == 1:
        return {}
    # It keeps the kind of a random key; Orbax's own handler has it, and no public name leads there.
    from orbax.checkpoint._src.metadata import array_metadata_store

    arrays = ocp.type_handlers.ArrayHandler(
        primary_host=jax.process_index(),
        use_replica_parallel=False,
        array_metadata_store=array_metadata_store.Store(),
    )
    return {
        "array_metadata_validator": _Unvalidated(),
        "type_handler_registry": ocp.type_handlers.create_type_handler_registry(
            (np.ndarray, ocp.type_handlers.NumpyHandler()), (jax.Array, arrays)
        ),
    }


class _Unvalidated:
    def validate_all_array_metadatas(self, array_metadatas: object) -> None:
        """Compares nothing: one process has written all."""


def _composite(**handlers: Any) -> ocp.CheckpointHandler:
    options = ocp.CompositeOptions(multiprocessing_options=_by_itself())
    return ocp.CompositeCheckpointHandler(composite_options=options, **handlers)


def _by_itself() -> ocp.options.MultiprocessingOptions:
    """Waiting for no other process: of a run the first alone saves, and each reads on its own."""
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
    )


def read(path: Path, abstract: dict[str, Any]) -> dict[str, Any]:
    """The named trees, each leaf in the sharding of its abstract leaf, or else on one device.

    Raises errors.Mismatch naming the first leaf whose presence, shape or dtype differs, and
    errors.NoCheckpoint if files are damaged.
    """
    _require_equal(path, abstract)
    placed = jax.tree.map(_place, abstract)
    items = {name: ocp.args.StandardRestore(tree) for name, tree in placed.items()}
    with _readable(path), _orbax(_composite) as checkpointer:
        trees = checkpointer.restore(path, args=ocp.args.Composite(**items))
    return {name: trees[name] for name in abstract}


def _place(leaf: Any) -> jax.ShapeDtypeStruct:
    # Without a sharding Orbax would want the devices of the process that saved.
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def read_data(path: Path) -> dict[str, Any]:
    """The JSON of the item `data`."""
    with _readable(path):
        return parse_json(read_text(path / _POSITION, LONGEST_POSITION_BYTES))


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
    if is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # The ways in which Orbax meets bad files, and TensorStore those that vanish meanwhile.
        if not isinstance(error, OSError | ValueError | KeyError) and type(error) is not Exception:
            raise
        raise errors.NoCheckpoint(
            f"{path} cannot be read ({error}): rename it to put it aside, and use another step"
        ) from error


def _orbax(handler: Callable[[], ocp.CheckpointHandler]) -> ocp.Checkpointer:
    logging.getLogger("absl").addFilter(_is_not_orbax)
    return ocp.Checkpointer(handler(), multiprocessing_options=_by_itself())


def _is_not_orbax(record: logging.LogRecord) -> bool:
    # It tells each save in a hundred lines, and each error twice before it raises it.
    return "orbax" not in record.pathname
