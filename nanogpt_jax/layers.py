"""Layers that own parameters: thin Flax Linen modules around functional.py and attention.py.

Linen names parameters and nothing else: only the `params` collection, every parameter and
submodule named, static things as fields, traced things as arguments. A parameter declares the
logical name of each of its axes; `models.build` unboxes them once.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from nanogpt_jax import attention
from nanogpt_jax import functional as F
from nanogpt_jax.attention_kernel import OWN, Kernel
from nanogpt_jax.interface import Array, Edit, Key
from nanogpt_jax.registry import unknown

Initializer = Callable[[Key, Sequence[int], Any], Array]
zeros: Initializer = nn.initializers.zeros
ones: Initializer = nn.initializers.ones
normal = nn.initializers.normal


def fan_in_uniform(fan_in: int, gain: float) -> Initializer:
    """Uniform with standard deviation gain / sqrt(fan_in) (He et al. 2015, arXiv:1502.01852)."""
    bound = gain * math.sqrt(3.0 / fan_in)

    def init(key: Key, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return init


def param(
    module: nn.Module,
    name: str,
    shape: Sequence[int],
    axes: Sequence[str],
    init: Initializer,
) -> Any:
    """A float32 parameter of `module`; `axes` names each dimension for sharding and grouping."""
    boxed = nn.with_logical_partitioning(init, tuple(axes))
    # The dtype is said, because JAX's own default widens under jax_enable_x64.
    return module.param(name, boxed, tuple(shape), jnp.float32)


class Context(NamedTuple):
    """What one layer gets besides the residual stream; arrays of this layer alone.

    `edits` maps a site to its Edit, `cache` is (keys_BKSC, values_BKSC), `key` is for dropout.
    Of all layers together: a leading axis L, but for the caches, which stay a tuple.
    """

    edits: dict[str, Edit] | None = None
    cache: Any = None
    key: Key | None = None


class Sites:
    """The observable points of one layer: notes what is asked for, replaces what is edited.

    Without capture and edits it leaves no trace in the compiled program.
    """

    def __init__(self, capture: tuple[str, ...], edits: dict[str, Edit] | None):
        self._capture = capture
        self._edits = edits or {}
        self._known: set[str] = set()
        self._captured: dict[str, Array] = {}
        self._left: dict[str, Array] = {}

    def __call__(self, name: str, value: Array) -> Array:
        """`value`, or its edit where one replaces it; noted when `name` is captured."""
        self._known.add(name)
        if name in self._edits:
            edit = self._edits[name]
            value = jnp.where(edit.replace, edit.value.astype(value.dtype), value)
        if name in self._capture:
            self._captured[name] = value
        return value

    def wants(self, name: str) -> bool:
        """Whether `name` must exist in this program."""
        self._known.add(name)
        return name in self._capture or name in self._edits

    def leave(self, name: str, value: Array) -> None:
        """Hands `value` out of the layer, captured or not: the auxiliary loss `name` needs it."""
        self._left[name] = value

    def captured(self) -> dict[str, Array]:
        """What was captured or left, at the end of the layer; ValueError for an unknown site."""
        for name in (*self._capture, *self._edits):
            if name not in self._known:
                raise ValueError(unknown("site", name, self._known))
        return self._captured | self._left


class Norm(nn.Module):
    """RMSNorm or LayerNorm; a learned gain, and for LayerNorm a bias, only where asked for."""

    kind: Literal["rms", "layer"]
    eps: float
    gain: bool
    bias: bool

    @nn.compact
    def __call__(self, x_BTD: Array) -> Array:
        D = x_BTD.shape[-1]
        gain_D = param(self, "gain", (D,), ("embed",), ones) if self.gain else 1.0
        biased = self.bias and self.kind == "layer"
        bias_D = param(self, "bias", (D,), ("embed",), zeros) if biased else 0.0
        norm = F.rms_norm if self.kind == "rms" else F.layer_norm

        def normed(x_BTD: Array, gain_D: Array | float, bias_D: Array | float) -> Array:
            wide_BTD = norm(F.at_least_float32(x_BTD), self.eps) * gain_D + bias_D
            return wide_BTD.astype(x_BTD.dtype)

        # The backward pass needs the input and nothing else: a sixth less memory in training.
        return jax.checkpoint(normed)(x_BTD, gain_D, bias_D)


class Attention(nn.Module):
    """Causal self-attention with grouped kv heads, rotary positions and normed queries and keys.

    `before_rope_gain` gives the norms of queries and keys a learned gain each, shared by the heads
    (Qwen3). Without `allowed_BTS` a query sees every key up to its own. `kernel` attends where no
    cache is read and nobody asks for probabilities.
    """

    n_head: int
    n_kv_head: int
    d_head: int
    init_in: Initializer
    init_out: Initializer | None  # None: no output projection, the heads side by side
    bias: bool = False
    rope_base: float = 0.0  # 0: no rotation
    qk_norm: Literal["off", "after_rope", "before_rope", "before_rope_gain"] = "off"
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-6
    qkv_clamp: float = 0.0
    logit_scale: float = 1.0
    dropout: float = 0.0
    kernel: Kernel = OWN

    @nn.compact
    def __call__(
        self,
        x_BTD: Array,
        positions_BT: Array,
        allowed_BTS: Array | None,
        context: Context,
        sites: Sites,
    ) -> tuple[Array, tuple[Array, Array] | None]:
        H, K, C, D = self.n_head, self.n_kv_head, self.d_head, x_BTD.shape[-1]
        # What a parameter starts as depends on how many were made before it: keep the order.
        q_BHTC = self._place("q", self._project("q", x_BTD, D, H, C), positions_BT)
        if self.logit_scale != 1.0:
            q_BHTC = q_BHTC * self.logit_scale
        k_BKTC = self._place("k", self._project("k", x_BTD, D, K, C), positions_BT)
        v_BKTC = self._project("v", x_BTD, D, K, C)
        cache = None
        if context.cache is not None:
            keys_BKSC, values_BKSC = context.cache
            start_B = positions_BT[:, 0]
            k_BKTC = attention.write_cache(keys_BKSC, k_BKTC, start_B)
            v_BKTC = attention.write_cache(values_BKSC, v_BKTC, start_B)
            cache = (k_BKTC, v_BKTC)
        if sites.wants("attention_logit_max"):
            sites("attention_logit_max", attention.largest_logit(q_BHTC, k_BKTC, allowed_BTS))
        if sites.wants("attention") or (self.dropout and context.key is not None):
            seen_BTS = attention.causal_mask(x_BTD.shape[1]) if allowed_BTS is None else allowed_BTS
            p_BHTS = sites("attention", attention.attention_probabilities(q_BHTC, k_BKTC, seen_BTS))
            y_BHTC = attention.mix(drop(p_BHTS, self.dropout, context.key, "attention"), v_BKTC)
        elif cache is None:
            y_BHTC = self.kernel.attend(q_BHTC, k_BKTC, v_BKTC, allowed_BTS)
        else:
            assert allowed_BTS is not None  # how far a cache is filled, no shape says
            y_BHTC = attention.attend(q_BHTC, k_BKTC, v_BKTC, allowed_BTS)
        y_BHTC = sites("head_out", y_BHTC)
        if self.init_out is None:
            return y_BHTC.swapaxes(1, 2).reshape(*x_BTD.shape[:2], H * C), cache
        w_HCD = param(self, "w_o", (H, C, D), ("heads", "head", "embed"), self.init_out)
        y_BTHC = y_BHTC.swapaxes(1, 2)
        y_BTD = F.linear(y_BTHC.reshape(*x_BTD.shape[:2], H * C), w_HCD.reshape(H * C, D))
        if self.bias:
            y_BTD = y_BTD + param(self, "b_o", (D,), ("embed",), zeros).astype(x_BTD.dtype)
        return y_BTD, cache

    def _project(self, name: str, x_BTD: Array, D: int, N: int, C: int) -> Array:
        heads = "heads" if name == "q" else "kv_heads"
        w_DNC = param(self, f"w_{name}", (D, N, C), ("embed", heads, "head"), self.init_in)
        y_BNTC = F.linear(x_BTD, w_DNC).swapaxes(1, 2)
        if self.bias:
            b_NC = param(self, f"b_{name}", (N, C), (heads, "head"), zeros)
            y_BNTC = y_BNTC + b_NC.astype(x_BTD.dtype)[:, None]
        return jnp.clip(y_BNTC, -self.qkv_clamp, self.qkv_clamp) if self.qkv_clamp else y_BNTC

    def _place(self, name: str, x_BNTC: Array, positions_BT: Array) -> Array:
        norm = F.rms_norm if self.norm == "rms" else F.layer_norm
        if self.qk_norm in ("before_rope", "before_rope_gain"):
            x_BNTC = norm(x_BNTC, self.norm_eps)
        if self.qk_norm == "before_rope_gain":
            gain_C = param(self, f"gain_{name}", x_BNTC.shape[-1:], ("head",), ones)
            x_BNTC = x_BNTC * gain_C.astype(x_BNTC.dtype)
        if self.rope_base:
            x_BNTC = F.rotate(x_BNTC, positions_BT, self.rope_base)
        if self.qk_norm == "after_rope":
            x_BNTC = norm(x_BNTC, self.norm_eps)
        return x_BNTC


class MLP(nn.Module):
    """Position-wise network; `swiglu` gates it (Shazeer 2020, arXiv:2002.05202)."""

    d_hidden: int
    activation: str
    init_in: Initializer
    init_out: Initializer
    bias: bool = False

    @nn.compact
    def __call__(self, x_BTD: Array) -> Array:
        D, Fh = x_BTD.shape[-1], self.d_hidden
        h_BTF = self._linear("up", x_BTD, Fh, ("embed", "mlp"), self.init_in)
        if self.activation == "swiglu":
            gate_BTF = self._linear("gate", x_BTD, Fh, ("embed", "mlp"), self.init_in)
            h_BTF = jax.nn.silu(gate_BTF) * h_BTF
        else:
            # What the backward pass needs beside its input is quicker computed again than kept.
            h_BTF = jax.checkpoint(F.ACTIVATIONS[self.activation])(h_BTF)
        return self._linear("down", h_BTF, D, ("mlp", "embed"), self.init_out)

    def _linear(
        self, name: str, x: Array, width: int, axes: tuple[str, str], init: Initializer
    ) -> Array:
        y = F.linear(x, param(self, f"w_{name}", (x.shape[-1], width), axes, init))
        if self.bias:
            y = y + param(self, f"b_{name}", (width,), axes[1:], zeros).astype(x.dtype)
        return y


def fold(key: Key, name: str) -> Key:
    """A key of its own for the use called `name`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def drop(x: Array, rate: float, key: Key | None, name: str) -> Array:
    """Dropout at the place called `name`, which draws its own share; no key, no-op."""
    return x if key is None or rate == 0.0 else F.dropout(x, rate, fold(key, name))


def run_layers(
    block: Callable[..., tuple[Array, Any]],
    layers: Any,
    x_BTD: Array,
    contexts: Context,
    *,
    n_layer: int,
    unroll: int,
    remat: bool = False,
) -> tuple[Array, Any]:
    """Applies `block(params, x, context) -> x, (cache, captured)` layer by layer.

    `layers` is one tree with a leading layer axis, or a tuple of L trees. Stacked layers without a
    cache are one `lax.scan` (`unroll` = L removes the loop: up to twice as fast on CPU). Otherwise
    it is a Python loop and the caches stay a tuple, because slices of stacked weights and a cache
    carried through a scan are copied for every token (2.7 to 5 times slower on CPU).
    Returns x and (the caches or None, what was captured with a leading layer axis).
    """
    if remat:
        block = jax.checkpoint(block)
    stacked = not isinstance(layers, tuple)
    if stacked and contexts.cache is None:

        def body(x: Array, layer: tuple[Any, Context]) -> tuple[Array, Any]:
            return block(layer[0], x, layer[1])

        return jax.lax.scan(body, x_BTD, (layers, contexts), length=n_layer, unroll=unroll)
    caches, notes = [], []
    for index, params in enumerate(split_layers(layers, n_layer) if stacked else layers):
        edits, key = jax.tree.map(lambda leaf, i=index: leaf[i], (contexts.edits, contexts.key))
        cache = None if contexts.cache is None else contexts.cache[index]
        x_BTD, (cache, captured) = block(params, x_BTD, Context(edits, cache, key))
        caches.append(cache)
        notes.append(captured)
    captured = jax.tree.map(lambda *layers: jnp.stack(layers), *notes)
    return x_BTD, (None if contexts.cache is None else tuple(caches), captured)


def split_layers(layers: Any, n_layer: int) -> tuple[Any, ...]:
    """The stacked tree as a tuple of trees, one a layer: what decoding wants."""
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], layers) for i in range(n_layer))
