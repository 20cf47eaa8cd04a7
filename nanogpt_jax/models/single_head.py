"""One attention head over the embeddings: the model can look back (rung 2 of 4).

Positions are a learned table; the head's answer is added to the embedding it was asked from.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp
from flax import linen as nn

from nanogpt_jax.interface import Array, Key, LanguageModel, ModelShape
from nanogpt_jax.layers import Attention, Context, Sites, fan_in_uniform, normal, param
from nanogpt_jax.models import Stack, models
from nanogpt_jax.registry import positive


@models.named("single_head")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Knobs of `single_head`."""

    d_model: Annotated[int, "width of the residual stream", positive] = 128
    d_head: Annotated[int, "channels of the head", positive] = 32
    max_seq_len: Annotated[int, "longest context, in tokens", positive] = 128

    def problems(self) -> list[str]:
        """Nothing can clash."""
        return []

    def shape(self, vocab_size: int) -> ModelShape:
        """One layer, one head."""
        return ModelShape("single_head", vocab_size, 1, 1, 1, self.d_model, self.max_seq_len)


class Ends(nn.Module):
    """Token and position embeddings below, linear head above."""

    vocab_size: int
    d_model: int
    max_seq_len: int
    dtype: Any

    def setup(self) -> None:
        """Makes the three tables."""
        V, D, T = self.vocab_size, self.d_model, self.max_seq_len
        self.w_embed_VD = param(self, "w_embed", (V, D), ("vocab", "embed"), normal(1.0))
        self.w_position_TD = param(self, "w_position", (T, D), ("position", "embed"), normal(0.5))
        self.w_head_DV = param(self, "w_head", (D, V), ("embed", "vocab"), normal(0.02))

    def embed(self, inputs_BT: Array, positions_BT: Array, key: Key | None) -> Array:
        """What the token is, plus where it stands."""
        del key
        x_BTD = self.w_embed_VD[inputs_BT] + self.w_position_TD[positions_BT]
        return x_BTD.astype(self.dtype)

    def unembed(self, x: Array) -> Array:
        """Scores of the next token."""
        return jnp.einsum("...D,DV->...V", x, self.w_head_DV.astype(x.dtype))


class Block(nn.Module):
    """x + attention(x)."""

    n_head: int
    d_head: int

    @nn.compact
    def __call__(
        self,
        x_BTD: Array,
        positions_BT: Array,
        allowed_BTS: Array,
        context: Context,
        capture: tuple[str, ...],
    ) -> tuple[Array, Any]:
        sites = Sites(capture, context.edits)
        x_BTD = sites("residual", x_BTD)
        attention = Attention(
            n_head=self.n_head,
            n_kv_head=self.n_head,
            d_head=self.d_head,
            init_in=fan_in_uniform(x_BTD.shape[-1], 1.0),
            init_out=fan_in_uniform(self.n_head * self.d_head, 1.0),
            name="attention",
        )
        y_BTD, cache = attention(x_BTD, positions_BT, allowed_BTS, context, sites)
        return x_BTD + y_BTD, (cache, sites.captured())


def build(
    config: Config, vocab_size: int, *, dtype: Any = jnp.float32, unroll: int | None = None
) -> LanguageModel:
    """The model as pure functions."""
    return Stack(
        ends=Ends(vocab_size, config.d_model, config.max_seq_len, dtype),
        block=Block(1, config.d_head),
        shape=config.shape(vocab_size),
        d_head=config.d_head,
        dtype=dtype,
        unroll=unroll,
    ).model()
