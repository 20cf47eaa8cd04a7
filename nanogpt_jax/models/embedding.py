"""The smallest language model: a table from each token to the scores of the next one.

It sees one token back and nothing else, so it can learn bigrams and no more (rung 1 of 4).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp
from flax import linen as nn

from nanogpt_jax import functional as F
from nanogpt_jax.attention_kernel import OWN, Kernel
from nanogpt_jax.interface import Array, Key, LanguageModel, ModelShape
from nanogpt_jax.layers import normal, param, zeros
from nanogpt_jax.models import Stack, models
from nanogpt_jax.registry import positive


@models.named("embedding")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Knobs of `embedding`."""

    d_model: Annotated[int, "width of an embedding", positive] = 128
    max_seq_len: Annotated[int, "longest context, in tokens", positive] = 128
    bias: Annotated[bool, "the head has a bias"] = False

    def problems(self) -> list[str]:
        """Nothing can clash."""
        return []

    def shape(self, vocab_size: int) -> ModelShape:
        """No layers and no heads."""
        return ModelShape("embedding", vocab_size, 0, 0, 0, self.d_model, self.max_seq_len)


class Ends(nn.Module):
    """Token embedding below, linear head above."""

    vocab_size: int
    d_model: int
    dtype: Any
    bias: bool = False

    def setup(self) -> None:
        """Makes both tables; the head starts at zero scores nearly, so the loss starts at ln V."""
        V, D = self.vocab_size, self.d_model
        self.w_embed_VD = param(self, "w_embed", (V, D), ("vocab", "embed"), normal(1.0))
        self.w_head_DV = param(self, "w_head", (D, V), ("embed", "vocab"), normal(0.02))
        if self.bias:
            self.b_head_V = param(self, "b_head", (V,), ("vocab",), zeros)

    def embed(self, inputs_BT: Array, positions_BT: Array, key: Key | None) -> Array:
        """The row of each token."""
        del positions_BT, key
        return self.w_embed_VD[inputs_BT].astype(self.dtype)

    def unembed(self, x: Array) -> Array:
        """Scores of the next token."""
        scores = F.linear_wide(x, self.w_head_DV)
        return scores + self.b_head_V if self.bias else scores


def build(
    config: Config,
    vocab_size: int,
    *,
    dtype: Any = jnp.float32,
    unroll: int | None = None,
    kernel: Kernel = OWN,
) -> LanguageModel:
    """The model as pure functions."""
    del kernel  # nothing attends
    ends = Ends(vocab_size, config.d_model, dtype, config.bias)
    return Stack(ends=ends, shape=config.shape(vocab_size), dtype=dtype, unroll=unroll).model()
