"""How many bytes a step of training needs on one device, from shapes alone: for the planner.

What is kept of a model is exact: parameters, the optimizer's state. What a step needs beside it is
what XLA's compiler for CPUs makes of the blocks of models/gpt.py: arrays per token of a layer, as
multiples of widths, fitted to what it allocates for forty-odd shapes (1 to 8 layers, widths 128 to
512, 64 to 2048 tokens; all within 3 %, with more than 128 tokens a row within 7 %). Elsewhere they
are a guess: another compiler keeps other arrays, in the width of its dtype.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from nanogpt_jax.attention import QUERY_CHUNK, QUERY_GROUP
from nanogpt_jax.interface import Axes, ModelShape
from nanogpt_jax.losses import CHUNK_LOGITS, CHUNK_LOGITS_ON_CPU
from nanogpt_jax.parallel import split_axes

# Numbers that a layer keeps of a token, or has at hand at the peak, as multiples of a width.
OF_STREAM = 5.5  # d_model: the residual stream, twice, and what goes into both sublayers
OF_LAYER_NORM = 2.2  # d_model more, where norms are centred
OF_HIDDEN = 2.2  # the MLP's hidden width: before and after the activation
OF_GATE = 3.0  # the same, for a gate
OF_KEYS_AND_VALUES = 2.5  # widths of keys and values
OF_QK_NORM = 1.8  # widths of normed queries and keys
OF_SCORES = 1.1  # heads times the keys of one chunk of queries
OF_MORE_SCORES = 0.75  # heads times the keys beyond it, while chunks stand side by side
# At the peak, once: multiples of d_model a token, of the logits of one chunk, of the parameters.
OF_ENDS = 4.3
OF_LOGITS = 2.1
OF_GRADIENTS = 1.0
OF_GRADIENTS_IN_TURN = 1.8  # with accumulation: the sum so far beside those of a micro-shard
OF_LOOPED_SCORES = 2.4  # heads times a chunk of queries times all keys, beyond QUERY_GROUP


class Memory(NamedTuple):
    """Bytes on one device."""

    params: int
    optimizer: int
    step: int  # beside them, at its peak

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


class Work(NamedTuple):
    """What one device does at once: a micro-shard's rows, and how arrays are split."""

    rows: int
    seq_len: int
    accumulate: int
    mesh: Mapping[str, int]  # sizes of data, fsdp and tensor
    activation_bytes: int  # of a number, as computed
    on_cpu: bool


def step_memory(state: Any, axes: Axes, shape: ModelShape, config: Any, work: Work) -> Memory:
    """Bytes of `state` (shapes with params and opt_state) and of a step, of a `gpt` of `config`."""
    params = _bytes_held(state.params, axes, work.mesh)
    numbers = params // 4
    # Moments follow the parameters that they belong to.
    whole = sum(math.prod(leaf.shape) * 4 for leaf in jax.tree.leaves(state.params))
    moments = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.opt_state)
    )
    gradients = OF_GRADIENTS_IN_TURN if work.accumulate > 1 else OF_GRADIENTS
    tokens = work.rows * work.seq_len
    per_token = shape.n_layer * numbers_of_layer(state.params, shape, config, work)
    ends = OF_ENDS * shape.d_model
    chunk = CHUNK_LOGITS_ON_CPU if work.on_cpu else CHUNK_LOGITS
    logits = min(tokens * shape.vocab_size, max(chunk, work.rows * shape.vocab_size))
    looped = 0.0
    if work.seq_len > QUERY_GROUP:
        looped = OF_LOOPED_SCORES * work.rows * shape.n_head * QUERY_CHUNK * work.seq_len
    step = (
        (tokens * (per_token + ends) + looped) * work.activation_bytes
        + OF_LOGITS * logits * 4
        + gradients * numbers * 4
    )
    return Memory(params, round(moments * params / whole), round(step))


def numbers_of_layer(params: Any, shape: ModelShape, config: Any, work: Work) -> float:
    """What a layer keeps of one token."""
    leaves = _by_name(params)
    tensor = work.mesh["tensor"]

    def width(name: str) -> int:
        """All that a projection of one layer puts out for a token."""
        found = leaves.get(name)
        return 0 if found is None else math.prod(found.shape) // shape.n_layer // shape.d_model

    keys, queries = width("w_k"), width("w_q")
    split = OF_HIDDEN * width("w_up") + OF_GATE * width("w_gate") + OF_KEYS_AND_VALUES * keys
    if config.qk_norm != "off":
        split += OF_QK_NORM * (queries + keys)
    seen = min(work.seq_len, QUERY_CHUNK)
    more = max(work.seq_len - QUERY_CHUNK, 0) if work.seq_len <= QUERY_GROUP else 0
    split += shape.n_head * (OF_SCORES * seen + OF_MORE_SCORES * more)
    stream = OF_STREAM + (OF_LAYER_NORM if config.norm == "layer" else 0.0)
    return stream * shape.d_model + split / tensor


def _by_name(params: Any) -> dict[str, Any]:
    """Leaves of the layers by the last part of their path."""
    layers = params.get("layers", {})
    return {str(path[-1].key): leaf for path, leaf in jax.tree.leaves_with_path(layers)}


def _bytes_held(params: Any, axes: Axes, mesh: Mapping[str, int]) -> int:
    """Bytes of parameters on one device of a mesh."""

    def held(leaf: Any, names: tuple[str, ...]) -> int:
        used = split_axes(leaf.shape, names, mesh)
        parts = math.prod(mesh[axis] for axis in used if axis is not None)
        return math.prod(leaf.shape) // parts * leaf.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(held, params, axes)))
