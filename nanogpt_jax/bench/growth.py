"""Memory of attention's compiled program as the context grows.

Nothing is run: the compiler knows what its program will hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from nanogpt_jax import attention
from nanogpt_jax.errors import NanogptError
from nanogpt_jax.interface import Array


def attention_memory(
    *, lengths: tuple[int, ...] = (1024, 2048, 4096, 8192), heads: int = 6, channels: int = 64
) -> Callable[[], Mapping[str, float]]:
    """A round tells the temporary memory at each length, `mib_at_T`, and how it grows.

    `exponent_at_T` is p in T^p between T and the length before: 2 where all scores are held. Every
    round tells the same, as the compiler does.
    """
    mib = {length: temporary_bytes(length, heads, channels) / 2**20 for length in lengths}
    found = {f"mib_at_{length}": size for length, size in mib.items()}
    for before, length in itertools.pairwise(lengths):
        growth = math.log(mib[length] / mib[before]) / math.log(length / before)
        found[f"exponent_at_{length}"] = growth
    return lambda: found


def temporary_bytes(length: int, heads: int, channels: int) -> int:
    """What causal attention of one row holds, forward and backward, beside its arguments."""

    def summed(q_BHTC: Array, k_BHTC: Array, v_BHTC: Array) -> Array:
        return jnp.sum(attention.attend_causally(q_BHTC, k_BHTC, v_BHTC) ** 2)

    x_BHTC = jax.ShapeDtypeStruct((1, heads, length, channels), jnp.float32)
    program = jax.jit(jax.grad(summed, argnums=(0, 1, 2))).lower(x_BHTC, x_BHTC, x_BHTC).compile()
    if (held := program.memory_analysis()) is None:
        raise NanogptError(f"{jax.default_backend()} does not tell what its programs hold; use cpu")
    return held.temp_size_in_bytes
