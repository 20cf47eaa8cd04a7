"""Leaves of a tree of arrays: by their paths, and copied before a computation reuses them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of any tree by path; a tuple and the list it is read back as have equal paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def snapshot(tree: Any) -> Any:
    """A copy that no later computation can touch: on the host, but for random keys.

    A key that several processes hold is taken as it is: to copy it would need all of them.
    """

    def copy(leaf: Any) -> Any:
        if is_key(leaf):
            return jnp.copy(leaf) if leaf.is_fully_addressable else leaf
        # On CPU np.asarray would share the buffer, and the next step could not reuse it.
        return np.array(leaf)

    return jax.tree.map(copy, tree)


def is_key(leaf: Any) -> bool:
    """Whether it is a key of jax.random, which no file can hold as it is."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
