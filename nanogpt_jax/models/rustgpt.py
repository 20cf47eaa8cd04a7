"""RustGPT's transformer (tekaratzas, MIT): post-norm blocks whose heads are not projected.

Held to its shapes and formulas: a LayerNorm that adds its epsilon to the deviation, a ReLU MLP with
biases, a head with one, He initialisation. It is no preset of `gpt`: nothing of it is rotary, gated
or pre-normed. `output_projection` adds what its users wanted beside more heads.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp
from flax import linen as nn

from nanogpt_jax import functional as F
from nanogpt_jax.attention_kernel import OWN, Kernel
from nanogpt_jax.interface import Array, Key, LanguageModel, ModelShape
from nanogpt_jax.layers import (
    MLP,
    Attention,
    Context,
    Initializer,
    Sites,
    normal,
    ones,
    param,
    zeros,
)
from nanogpt_jax.models import Stack, models
from nanogpt_jax.registry import positive

EMBEDDING_STD = 0.02
NORM_EPS = 1e-5


@models.named("rustgpt")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Knobs of `rustgpt`; the defaults are the original's."""

    n_layer: Annotated[int, "blocks", positive] = 3
    n_head: Annotated[int, "attention heads", positive] = 1
    d_model: Annotated[int, "width of the residual stream", positive] = 128
    d_hidden: Annotated[int, "hidden width of the MLP", positive] = 256
    max_seq_len: Annotated[int, "longest context, in tokens", positive] = 80
    output_projection: Annotated[bool, "a matrix mixes what the heads have read"] = False

    def problems(self) -> list[str]:
        """The heads share the width."""
        if self.d_model % self.n_head:
            return [f"model.d_model={self.d_model} is not a multiple of model.n_head={self.n_head}"]
        return []

    def shape(self, vocab_size: int) -> ModelShape:
        """The numbers that name the model."""
        L, H = self.n_layer, self.n_head
        return ModelShape("rustgpt", vocab_size, L, H, H, self.d_model, self.max_seq_len)


class Ends(nn.Module):
    """Token plus position below, a linear head with a bias above; no norm at either end."""

    vocab_size: int
    d_model: int
    max_seq_len: int
    dtype: Any

    def setup(self) -> None:
        """Makes the two tables and the head."""
        V, D, T = self.vocab_size, self.d_model, self.max_seq_len
        table = normal(EMBEDDING_STD)
        self.w_embed_VD = param(self, "w_embed", (V, D), ("vocab", "embed"), table)
        self.w_position_TD = param(self, "w_position", (T, D), ("position", "embed"), table)
        self.w_head_DV = param(self, "w_head", (D, V), ("embed", "vocab"), he_normal(D))
        self.b_head_V = param(self, "b_head", (V,), ("vocab",), zeros)

    def embed(self, inputs_BT: Array, positions_BT: Array, key: Key | None) -> Array:
        """What the token is, plus where it stands."""
        del key
        x_BTD = self.w_embed_VD[inputs_BT] + self.w_position_TD[positions_BT]
        return x_BTD.astype(self.dtype)

    def unembed(self, x: Array) -> Array:
        """Scores of the next token."""
        logits = F.linear_wide(x, self.w_head_DV)
        return F.at_least_float32(logits) + self.b_head_V


class Block(nn.Module):
    """x = norm(x + attention(x)), then x = norm(x + mlp(x))."""

    config: Config
    kernel: Kernel = OWN

    @nn.compact
    def __call__(
        self,
        x_BTD: Array,
        positions_BT: Array,
        allowed_BTS: Array | None,
        context: Context,
        capture: tuple[str, ...],
    ) -> tuple[Array, Any]:
        c, D = self.config, self.config.d_model
        attention = Attention(
            n_head=c.n_head,
            n_kv_head=c.n_head,
            d_head=D // c.n_head,
            init_in=he_normal(D),
            init_out=he_normal(D) if c.output_projection else None,
            kernel=self.kernel,
            name="attention",
        )
        mlp = MLP(c.d_hidden, "relu", he_normal(D), he_normal(c.d_hidden), bias=True, name="mlp")
        sites = Sites(capture, context.edits)

        x_BTD = sites("residual", x_BTD)
        y_BTD, cache = attention(x_BTD, positions_BT, allowed_BTS, context, sites)
        x_BTD = Norm(name="norm_attention")(x_BTD + y_BTD)
        y_BTD = sites("mlp_out", mlp(x_BTD))
        x_BTD = Norm(name="norm_mlp")(x_BTD + y_BTD)
        return x_BTD, (cache, sites.captured())


class Norm(nn.Module):
    """`standardize` with a learned gain and bias."""

    @nn.compact
    def __call__(self, x_BTD: Array) -> Array:
        D = x_BTD.shape[-1]
        gain_D = param(self, "gain", (D,), ("embed",), ones).astype(x_BTD.dtype)
        bias_D = param(self, "bias", (D,), ("embed",), zeros).astype(x_BTD.dtype)
        return gain_D * standardize(x_BTD, NORM_EPS) + bias_D


def standardize(x: Array, eps: float) -> Array:
    """(x - mean) / (deviation + eps) over the last axis, with the population's deviation.

    At least float32 inside. The gradient is finite where all values are equal.
    """
    wide = F.at_least_float32(x)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    # A root has no slope at 0.
    deviation = jnp.sqrt(jnp.maximum(variance, jnp.finfo(variance.dtype).tiny))
    return (centred / (deviation + eps)).astype(x.dtype)


def he_normal(fan_in: int) -> Initializer:
    """Normal with standard deviation sqrt(2 / fan_in) (He et al. 2015, arXiv:1502.01852)."""
    return normal((2 / fan_in) ** 0.5)


def build(
    config: Config,
    vocab_size: int,
    *,
    dtype: Any = jnp.float32,
    unroll: int | None = None,
    kernel: Kernel = OWN,
) -> LanguageModel:
    """The model as pure functions."""
    return Stack(
        ends=Ends(vocab_size, config.d_model, config.max_seq_len, dtype),
        block=Block(config, kernel),
        shape=config.shape(vocab_size),
        d_head=config.d_model // config.n_head,
        dtype=dtype,
        unroll=unroll,
    ).model()
