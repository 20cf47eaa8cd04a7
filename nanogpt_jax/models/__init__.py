"""Models: each a file that names its knobs (`Config`), its two ends and its block.

A model here is a `Stack`: ends that embed tokens and make logits, and one block that is
initialised `n_layer` times. The stack turns these modules into the pure functions of interface.py;
positions, masks, cache, observation and the loop over layers live here, once. What happens inside
a layer does not: read gpt.py.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from nanogpt_jax import functional as F
from nanogpt_jax.attention import causal_mask
from nanogpt_jax.attention_kernel import OWN, Kernel
from nanogpt_jax.interface import (
    Array,
    Axes,
    Edits,
    Key,
    KVCache,
    LanguageModel,
    Mean,
    ModelOutput,
    ModelShape,
    Params,
)
from nanogpt_jax.layers import Context, fold, run_layers
from nanogpt_jax.registry import Registry

models: Registry[Any] = Registry("model", "nanogpt_jax.models")


class ModelConfig(Protocol):
    """What every model's `Config` can say about itself."""

    def problems(self) -> list[str]:
        """Every combination of fields that cannot be built."""
        ...

    def shape(self, vocab_size: int) -> ModelShape:
        """The numbers that name the model."""
        ...


def build(
    name: str,
    config: ModelConfig,
    vocab_size: int,
    *,
    dtype: Any = jnp.float32,
    unroll: int | None = None,
    kernel: Kernel = OWN,
) -> LanguageModel:
    """The model called `name`; activations in `dtype`, parameters float32.

    `unroll` is the number of layers a compiled loop body holds; None unrolls all of them. `kernel`
    says where cuDNN attends.
    """
    module = importlib.import_module(f"nanogpt_jax.models.{name}")
    return module.build(config, vocab_size, dtype=dtype, unroll=unroll, kernel=kernel)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
    """Ends around `shape.n_layer` equal blocks; without a block, the ends alone.

    `ends` has `embed(inputs_BT, positions_BT, key) -> x_BTD` and `unembed(x_..D) -> logits_..V`;
    `block(x_BTD, positions_BT, allowed_BTS, context, capture) -> x_BTD, (cache, captured)`;
    `auxiliary` makes a loss of what the layers `leave` under its name, given with a leading layer
    axis and beside the weights of the positions.
    The parameters of the ends stand at the top of the tree, those of all layers, stacked on a
    leading axis, under `layers`.
    """

    ends: nn.Module
    shape: ModelShape
    block: nn.Module | None = None
    d_head: int = 0
    dtype: Any = jnp.float32
    unroll: int | None = None
    remat: bool = False
    auxiliary: Mapping[str, Callable[[Array, Array], Mean]] = dataclasses.field(
        default_factory=dict
    )

    def model(self) -> LanguageModel:
        """The stack as pure functions."""
        return LanguageModel(self.init, self.apply, self.unembed, self.axes(), self.empty_cache)

    def init(self, key: Key) -> Params:
        """Float32 parameters; every layer draws its own."""
        return jax.tree.map(lambda box: box.value, self._boxed(key), is_leaf=_is_box)

    def axes(self) -> Axes:
        """The logical axis names of every parameter, found without computing anything."""

        def names(box: nn.LogicallyPartitioned) -> tuple[str | None, ...]:
            stacked = box.value.ndim > len(box.names)
            return ("layers", *box.names) if stacked else tuple(box.names)

        boxed = jax.eval_shape(lambda: self._boxed(jax.random.key(0)))
        return jax.tree.map(names, boxed, is_leaf=_is_box)

    def apply(
        self,
        params: Params,
        inputs_BT: Array,
        *,
        segments_BT: Array | None = None,
        weights_BT: Array | None = None,
        cache: KVCache | None = None,
        capture: tuple[str, ...] = (),
        edits: Edits | None = None,
        dropout_key: Key | None = None,
    ) -> ModelOutput:
        """One pass from tokens to the residual stream after the last layer."""
        self._check_length(inputs_BT.shape[1])
        positions_BT = _positions(inputs_BT, segments_BT, cache)
        x_BTD = self._apply_ends(params, "embed", inputs_BT, positions_BT, dropout_key)
        x_BTD = F.constrain(x_BTD)

        caches, captured = None, {}
        if self.block is not None:
            allowed_BTS = _allowed(positions_BT, segments_BT, cache)
            x_BTD, (caches, captured) = run_layers(
                _bind(self.block, positions_BT, allowed_BTS, capture),
                params["layers"],
                x_BTD,
                self._contexts(cache, edits, dropout_key),
                n_layer=self.shape.n_layer,
                unroll=self.unroll or self.shape.n_layer,
                remat=self.remat,
            )
        elif capture or edits:
            raise ValueError(f"model.name={self.shape.name!r} has no layers, so it has no sites")
        if weights_BT is None:
            weights_BT = jnp.ones(inputs_BT.shape)
        auxiliary = {
            name: loss(captured.pop(name), weights_BT) for name, loss in self.auxiliary.items()
        }
        return ModelOutput(x_BTD, _advance(cache, caches, inputs_BT), captured, auxiliary)

    def unembed(self, params: Params, hidden: Array) -> Array:
        """Logits, in at least float32, of any slice of the residual stream."""
        return F.at_least_float32(self._apply_ends(params, "unembed", hidden))

    def empty_cache(self, batch: int, length: int) -> KVCache:
        """Room for `length` positions of `batch` rows."""
        self._check_length(length)
        size = (batch, self.shape.n_kv_head, length, self.d_head)

        def buffers() -> tuple[Array, ...]:
            return tuple(jnp.zeros(size, self.dtype) for _ in range(self.shape.n_layer))

        return KVCache(buffers(), buffers(), jnp.zeros(batch, jnp.int32))

    def _boxed(self, key: Key) -> Any:
        """The parameter tree, each leaf in the box that carries its axis names."""
        tokens_BT = jnp.zeros((1, 1), jnp.int32)
        boxed = dict(self.ends.init(fold(key, "ends"), tokens_BT, method=_visit)["params"])
        block = self.block
        if block is not None:
            x_BTD = jnp.zeros((1, 1, self.shape.d_model), self.dtype)
            rest = (tokens_BT, jnp.ones((1, 1, 1), bool), Context(), ())
            keys_L = jax.random.split(fold(key, "layers"), self.shape.n_layer)
            boxed["layers"] = jax.vmap(lambda key: block.init(key, x_BTD, *rest)["params"])(keys_L)
        return boxed

    def _contexts(self, cache: KVCache | None, edits: Edits | None, key: Key | None) -> Context:
        """The contexts of all layers together."""
        L = self.shape.n_layer
        return Context(
            edits=None if edits is None else dict(edits),
            cache=None if cache is None else tuple(zip(cache.keys, cache.values, strict=True)),
            key=None if key is None else jax.random.split(fold(key, "layers"), L),
        )

    def _apply_ends(self, params: Params, method: str, *arguments: Any) -> Any:
        ends = {name: leaf for name, leaf in params.items() if name != "layers"}
        return self.ends.apply({"params": ends}, *arguments, method=method)

    def _check_length(self, length: int) -> None:
        longest = self.shape.max_seq_len
        if length > longest:
            raise ValueError(f"{length} positions, but the model has model.max_seq_len={longest}")


def _visit(ends: Any, tokens_BT: Array) -> Array:
    """Passes through both ends, so that initialisation meets all of their parameters."""
    return ends.unembed(ends.embed(tokens_BT, tokens_BT, None))


def _bind(
    block: nn.Module, positions_BT: Array, allowed_BTS: Array | None, capture: tuple[str, ...]
) -> Callable[[Params, Array, Context], tuple[Array, Any]]:
    """The block as a function of what differs from layer to layer."""

    def run_block(params: Params, x_BTD: Array, context: Context) -> tuple[Array, Any]:
        shared = (positions_BT, allowed_BTS, context, capture)
        x_BTD, rest = block.apply({"params": params}, x_BTD, *shared)
        return F.constrain(x_BTD), rest

    return run_block


def _is_box(leaf: object) -> bool:
    return isinstance(leaf, nn.LogicallyPartitioned)


def _positions(inputs_BT: Array, segments_BT: Array | None, cache: KVCache | None) -> Array:
    """Where the inputs stand: from 0, after the cache, or in a document; B = 1 if rows agree."""
    T = inputs_BT.shape[1]
    if cache is not None:
        if segments_BT is not None:
            raise ValueError("segments_BT beside a cache: a cache holds one document a row")
        return cache.length_B[:, None] + jnp.arange(T)
    if segments_BT is not None:
        return F.segment_positions(segments_BT)
    return jnp.arange(T)[None]


def _allowed(positions_BT: Array, segments_BT: Array | None, cache: KVCache | None) -> Array | None:
    """allowed_BTS: the keys a query may see, none later than itself, none of another document.

    None where every key up to its own is to be seen: who attends can do so without a mask.
    """
    if cache is not None:
        return positions_BT[:, :, None] >= jnp.arange(cache.keys[0].shape[2])
    if segments_BT is None:
        return None
    same_BTS = segments_BT[:, :, None] == segments_BT[:, None, :]
    return causal_mask(positions_BT.shape[1]) & same_BTS


def _advance(cache: KVCache | None, caches: Any, inputs_BT: Array) -> KVCache | None:
    """`cache` with the buffers that the layers have written, and the inputs counted."""
    if cache is None:
        return None
    keys, values = zip(*caches, strict=True) if caches else ((), ())
    return KVCache(tuple(keys), tuple(values), cache.length_B + inputs_BT.shape[1])
