"""The words that every floor shares: what a model is, what it takes, what it gives.

Nothing here computes. A model is five values; a test can pass a fake one. Shapes live in names:
B batch, T query position, S key position, D width, L layers, K kv heads, C channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array
Params = dict[str, Any]
Axes = dict[str, Any]


class Batch(NamedTuple):
    """One batch of a training or evaluation step; row i belongs to micro-shard i mod A.

    `inputs_BT` and `targets_BT` are int32 tokens, `weights_BT` float32 (0 is not in the loss),
    `segments_BT` int32 numbers of the documents of a row: attention stays inside one, positions
    restart. `segments_BT` is None when every row is one piece of text.
    """

    inputs_BT: Any
    targets_BT: Any
    weights_BT: Any
    segments_BT: Any = None


class KVCache(NamedTuple):
    """Keys and values of the positions seen so far; one array a layer, so a write copies one layer.

    `length_B` counts the filled positions of each row: rows may stand at different positions.
    """

    keys: tuple[Array, ...]  # L arrays BKSC
    values: tuple[Array, ...]  # likewise
    length_B: Array


class Edit(NamedTuple):
    """An intervention at a site: where `replace`, the value becomes `value`.

    Both broadcast against the captured value, so both have a leading layer axis.
    """

    replace: Array
    value: Array


Edits = Mapping[str, Edit]


class Mean(NamedTuple):
    """A mean in the making: summed value and summed weight, divided once after any reduction."""

    total: Array
    count: Array


class ModelOutput(NamedTuple):
    """What a forward pass leaves; logits are made from `hidden_BTD` by `unembed`, where wanted.

    `hidden_BTD` is the residual stream after the last layer. `captured` maps a site to an array
    with a leading layer axis. `auxiliary` maps the name of a further loss to a sum over positions
    and their weight, so that one division serves it and the loss of the tokens.
    """

    hidden_BTD: Array
    cache: KVCache | None
    captured: dict[str, Array]
    auxiliary: dict[str, Mean]


class LanguageModel(NamedTuple):
    """A decoder-only language model as pure functions over a plain nested dict of arrays.

    `apply(params, inputs_BT, *, segments_BT=None, weights_BT=None, cache=None, capture=(),
    edits=None, dropout_key=None) -> ModelOutput`. `capture` is a static tuple of site names.
    Positions of weight 0 count in no auxiliary loss; without weights all count. Inputs that
    follow a cache continue it; the cache must have room for them. A site that the model does not
    have, segments beside a cache, and more inputs than the model's longest context are
    ValueErrors. `axes` is the tree of params with tuples of logical axis names as leaves.
    `empty_cache` is None for a model that generates by full forward passes.
    """

    init: Callable[[Key], Params]
    apply: Callable[..., ModelOutput]
    unembed: Callable[[Params, Array], Array]  # (params, hidden_..D) -> logits_..V, >= float32
    axes: Axes
    empty_cache: Callable[[int, int], KVCache] | None  # (batch, length)


class ModelShape(NamedTuple):
    """The numbers that name a model in a sidecar, a cost formula or a server's answer."""

    name: str
    vocab_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    d_model: int
    max_seq_len: int
