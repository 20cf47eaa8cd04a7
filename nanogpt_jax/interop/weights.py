"""Parameters as the tensors of a class of transformers, and back; safetensors on disk.

How a tensor lies follows from the axes of ours and from the class's table, never from its name.
Other formats are not read: a pickle can run code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nanogpt_jax.errors import DataError, Mismatch
from nanogpt_jax.interface import Axes, Params
from nanogpt_jax.interop.family import Family
from nanogpt_jax.optim.groups import group

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
TURNED = ("w_q", "b_q", "gain_q", "w_k", "b_k", "gain_k")
SHOWN_NAMES = 5

Tensors = Mapping[str, np.ndarray]


class _Part(NamedTuple):
    """One of our parameters as one layer has it: a tensor of theirs, or a share of one."""

    path: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    transposed: bool
    turned: bool

    @property
    def flat_shape(self) -> tuple[int, ...]:
        """That of a vector, or of a matrix of all inputs by all outputs."""
        if len(self.axes) == 1 or "embed" not in self.axes:
            return (math.prod(self.shape),)
        split = 1 if self.axes[0] == "embed" else len(self.axes) - 1
        return math.prod(self.shape[:split]), math.prod(self.shape[split:])

    def turn(self, value: np.ndarray) -> np.ndarray:
        """Each half of a head in the place of the other: the same angles, the other way round."""
        return np.roll(value, value.shape[-1] // 2, axis=-1) if self.turned else value


class _Tensor(NamedTuple):
    """One of theirs: parts of ours side by side, of one layer where they are stacked."""

    name: str
    parts: list[_Part]
    layer: Any  # what selects it in a parameter of ours: its number, or everything


def _layout(family: Family, params: Params, axes: Axes) -> Iterator[_Tensor]:
    """Every tensor that a model with such parameters has."""
    leaves = _by_path(params)
    is_names = {"is_leaf": lambda leaf: isinstance(leaf, tuple)}
    names = dict(zip(leaves, jax.tree.leaves(axes, **is_names), strict=True))
    roles = dict(zip(leaves, jax.tree.leaves(group(axes).roles), strict=True))
    by_name: dict[str, list[_Part]] = {}
    for path, name in family.names.items():
        if path not in leaves:
            continue
        stacked = names[path][0] == "layers"
        part = _Part(
            path,
            leaves[path].shape[stacked:],
            names[path][stacked:],
            roles[path] == "head" or (roles[path] == "matrix" and family.transposed),
            family.turned and path.endswith(TURNED),
        )
        by_name.setdefault(name, []).append(part)
    for name, parts in by_name.items():
        if "{layer}" not in name:
            yield _Tensor(name, parts, ...)
            continue
        for layer in range(leaves[parts[0].path].shape[0]):
            yield _Tensor(name.format(layer=layer), parts, layer)


def _by_path(tree: Params) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def to_tensors(family: Family, params: Params, axes: Axes) -> dict[str, np.ndarray]:
    """The tensors of the class, in float32; gradients have them as parameters do."""
    leaves = {path: np.asarray(leaf, np.float32) for path, leaf in _by_path(params).items()}
    found = {}
    for name, parts, layer in _layout(family, params, axes):
        flat = [part.turn(leaves[part.path][layer]).reshape(part.flat_shape) for part in parts]
        tensor = np.concatenate(flat, axis=-1)
        found[name] = np.ascontiguousarray(tensor.T if parts[0].transposed else tensor)
    return found


def to_params(family: Family, tensors: Tensors, shapes: Params, axes: Axes) -> Params:
    """Parameters in float32, shaped like `shapes`.

    Rows of a table after our last token only pad it, and are left out. Raises Mismatch where a
    tensor is missing, has another shape or would be left over.
    """
    made = {path: np.empty(leaf.shape, np.float32) for path, leaf in _by_path(shapes).items()}
    unread = {name for name in tensors if not name.endswith(family.buffers)}
    for name, parts, layer in _layout(family, shapes, axes):
        held = name if name in tensors else name.partition(".")[2]
        if held not in tensors:
            raise Mismatch(f"there is no tensor {name}, which a {family.architecture} must have")
        unread.discard(held)
        tensor = tensors[held]
        if "vocab" in parts[0].axes:
            tensor = tensor[: parts[0].shape[parts[0].axes.index("vocab")]]
        tensor = tensor.T if parts[0].transposed else tensor
        widths = [part.flat_shape[-1] for part in parts]
        wanted = (*parts[0].flat_shape[:-1], sum(widths))
        if tensor.shape != wanted:
            shown = wanted[::-1] if parts[0].transposed else wanted
            raise Mismatch(f"{name} has the shape {tensors[held].shape}, {shown} is required")
        pieces = np.split(tensor, np.cumsum(widths)[:-1], axis=-1)
        for part, piece in zip(parts, pieces, strict=True):
            made[part.path][layer] = part.turn(piece.astype(np.float32).reshape(part.shape))
    if "w_head" not in made:  # then the head, where it is kept, is the embedding once more
        unread.discard(family.names["w_head"])
    if unread:
        raise Mismatch(
            f"{_list(sorted(unread))}: found, and nothing that its config.json describes"
        )
    return jax.tree.unflatten(jax.tree.structure(shapes), made.values())


def read(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of model.safetensors, or of all files that its index names."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, np.ndarray] = {}
    for name in files_of(folder):
        try:
            with safe_open(folder / name, framework="numpy") as file:
                found |= {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{folder / name} cannot be read ({error}); fetch or export it again"
            ) from error
    return found


def files_of(folder: Path) -> list[str]:
    """The names of the files that hold the tensors of a folder."""
    if not (folder / INDEX).is_file():
        if not (folder / WEIGHTS).is_file():
            raise DataError(
                f"{folder} has neither {WEIGHTS} nor {INDEX}, and other formats are not read: "
                "save the model with safetensors"
            )
        return [WEIGHTS]
    return named_in((folder / INDEX).read_bytes(), str(folder / INDEX))


def named_in(index: bytes, place: str) -> list[str]:
    """The names of the files in an index; DataError where one would lie elsewhere."""
    try:
        names = sorted(set(json.loads(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{place} is no index of safetensors: fetch or export it again") from error
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise DataError(f"{place} names the file {name!r}, one of safetensors is required")
    return names


def write(path: Path, tensors: Tensors) -> None:
    """Writes the tensors as one file of safetensors: whole, or not at all."""
    from safetensors.numpy import save_file

    unfinished = path.with_name(f".{path.name}")
    try:
        save_file(dict(tensors), unfinished, metadata={"format": "pt"})
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
