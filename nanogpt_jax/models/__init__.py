"""Models: each a file that names its knobs (`Config`), its two ends and its block.

A model here is a stack: `Ends` embeds tokens and makes logits, one `Block` is initialised
`n_layer` times on a leading axis. `assemble` turns the modules into the pure functions of
interface.py: positions, masks, cache, observation and the loop over layers live here, once.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from nanogpt_jax import functional as F
from nanogpt_jax.interface import (
    Array,
    Axes,
    Edits,
    Key,
    KVCache,
    LanguageModel,
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
) -> LanguageModel:
    """The model called `name`; activations in `dtype`, parameters float32.

    `unroll` is the number of layers a compiled loop body holds; None unrolls all of them.
    """
    module = importlib.import_module(f"nanogpt_jax.models.{name}")
    return module.build(config, vocab_size, dtype=dtype, unroll=unroll)


def assemble(
    ends: nn.Module,
    block: nn.Module | None,
    shape: ModelShape,
    *,
    d_head: int = 0,
    dtype: Any = jnp.float32,
    unroll: int | None = None,
    remat: bool = False,
) -> LanguageModel:
    """The pure functions of a stack.

    `ends` has `embed(inputs_BT, positions_BT, key) -> x_BTD` and `unembed(x_..D) -> logits_..V`;
    `block(x_BTD, positions_BT, allowed_BTS, context, capture) -> x_BTD, (cache, captured)`.
    """
    L = shape.n_layer
    tokens_BT = jnp.zeros((1, 1), jnp.int32)
    x_BTD = jnp.zeros((1, 1, shape.d_model), dtype)
    mask_BTS = jnp.ones((1, 1, 1), bool)

    def visit(module: Any, tokens_BT: Array) -> Array:
        return module.unembed(module.embed(tokens_BT, tokens_BT, None))

    def init_ends(key: Key) -> Any:
        return ends.init(key, tokens_BT, method=visit)["params"]

    def init_layer(key: Key) -> Any:
        assert block is not None
        return block.init(key, x_BTD, tokens_BT, mask_BTS, Context(), ())["params"]

    def init(key: Key) -> Params:
        params = dict(nn.unbox(init_ends(fold(key, "ends"))))
        if block is not None:
            keys_L = jax.random.split(fold(key, "layers"), L)
            params["layers"] = jax.vmap(lambda key: nn.unbox(init_layer(key)))(keys_L)
        return params

    def apply(
        params: Params,
        inputs_BT: Array,
        *,
        segments_BT: Array | None = None,
        cache: KVCache | None = None,
        capture: tuple[str, ...] = (),
        edits: Edits | None = None,
        dropout_key: Key | None = None,
    ) -> ModelOutput:
        positions_BT, allowed_BTS = _place(inputs_BT, segments_BT, cache)
        ends_params = {name: leaf for name, leaf in params.items() if name != "layers"}
        x_BTD = ends.apply(
            {"params": ends_params}, inputs_BT, positions_BT, dropout_key, method="embed"
        )
        x_BTD = F.constrain(x_BTD, F.BATCH, None, None)
        if block is None:
            return ModelOutput(x_BTD, _advance(cache, None, inputs_BT.shape[1]), {}, {})

        def run_block(params: Params, x_BTD: Array, context: Context) -> tuple[Array, Any]:
            x_BTD, rest = block.apply(
                {"params": params}, x_BTD, positions_BT, allowed_BTS, context, capture
            )
            return F.constrain(x_BTD, F.BATCH, None, None), rest

        contexts = Context(
            edits=None if edits is None else dict(edits),
            cache=None if cache is None else tuple(zip(cache.keys, cache.values, strict=True)),
            key=None if dropout_key is None else jax.random.split(fold(dropout_key, "layers"), L),
        )
        x_BTD, (caches, captured) = run_layers(
            run_block,
            params["layers"],
            x_BTD,
            contexts,
            n_layer=L,
            unroll=L if unroll is None else unroll,
            remat=remat,
        )
        return ModelOutput(x_BTD, _advance(cache, caches, inputs_BT.shape[1]), captured, {})

    def unembed(params: Params, hidden: Array) -> Array:
        ends_params = {name: leaf for name, leaf in params.items() if name != "layers"}
        return ends.apply({"params": ends_params}, hidden, method="unembed")

    def empty_cache(batch: int, length: int) -> KVCache:
        def buffers() -> tuple[Array, ...]:
            size = (batch, shape.n_kv_head, length, d_head)
            return tuple(jnp.zeros(size, dtype) for _ in range(L))

        return KVCache(buffers(), buffers(), jnp.zeros(batch, jnp.int32))

    return LanguageModel(init, apply, unembed, _axes(init_ends, init_layer, block), empty_cache)


def _axes(init_ends: Any, init_layer: Any, block: nn.Module | None) -> Axes:
    """The tree of logical axis names, read from the boxes without computing anything."""

    def names(init: Any, *leading: str) -> Any:
        boxed = jax.eval_shape(init, jax.random.key(0))
        return jax.tree.map(lambda box: (*leading, *box.names), boxed, is_leaf=_is_box)

    axes = dict(names(init_ends))
    if block is not None:
        axes["layers"] = names(init_layer, "layers")
    return axes


def _is_box(leaf: object) -> bool:
    return isinstance(leaf, nn.LogicallyPartitioned)


def _place(
    inputs_BT: Array, segments_BT: Array | None, cache: KVCache | None
) -> tuple[Array, Array]:
    """Positions of the inputs, and which keys each may see; B may be 1 where rows are alike."""
    T = inputs_BT.shape[1]
    if cache is not None:
        positions_BT = cache.length_B[:, None] + jnp.arange(T)
        S = cache.keys[0].shape[2] if cache.keys else T
        return positions_BT, positions_BT[:, :, None] >= jnp.arange(S)[None, None]
    if segments_BT is None:
        return jnp.broadcast_to(jnp.arange(T), (1, T)), F.causal_mask(T)
    same_BTS = segments_BT[:, :, None] == segments_BT[:, None, :]
    return F.segment_positions(segments_BT), F.causal_mask(T) & same_BTS


def _advance(cache: KVCache | None, caches: Any, length: int) -> KVCache | None:
    if cache is None:
        return None
    keys, values = zip(*caches, strict=True) if caches else ((), ())
    return KVCache(tuple(keys), tuple(values), cache.length_B + length)
