"""Which parameter is what: roles read from axis names, never from substrings of names."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax

from nanogpt_jax.interface import Axes

Role = Literal["matrix", "embedding", "head", "vector"]


class Groups(NamedTuple):
    """Trees shaped like the parameters: the role of each, and how a matrix maps inputs to outputs.

    `sides` holds (input dimensions, output dimensions) of a leaf, counted with its layer axis.
    `width_ratio` is the width at which rates were found over the model's own (muP).
    """

    roles: Any
    sides: Any
    width_ratio: float = 1.0

    def mask(self, *roles: Role) -> Any:
        """True at the parameters that have one of `roles`."""
        return jax.tree.map(lambda role: role in roles, self.roles)


def group(axes: Axes, width_ratio: float = 1.0) -> Groups:
    """The groups of a model's parameters."""

    def is_leaf(leaf: object) -> bool:
        return isinstance(leaf, tuple)

    def sides(leaf: tuple[str, ...]) -> Sides:
        start = 1 if leaf[0] == "layers" else 0
        # One side of a matrix is the residual stream: "embed" comes first or last.
        split = start + 1 if leaf[start] == "embed" else len(leaf) - 1
        return Sides(tuple(range(start, split)), tuple(range(split, len(leaf))))

    return Groups(
        jax.tree.map(_role, axes, is_leaf=is_leaf),
        jax.tree.map(sides, axes, is_leaf=is_leaf),
        width_ratio,
    )


@dataclasses.dataclass(frozen=True)
class Sides:
    """Dimensions of a matrix that are summed over, and those that come out; a leaf of a tree."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def _role(axes: tuple[str, ...]) -> Role:
    own = tuple(name for name in axes if name != "layers")
    if len(own) == 1 or "embed" not in own:
        return "vector"
    if own[0] in ("vocab", "position"):
        return "embedding"
    return "head" if own[-1] == "vocab" else "matrix"
