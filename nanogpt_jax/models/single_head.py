"""One attention head over the embeddings: the model can look back (rung 2 of 4).

Positions are a learned table; the head's answer is added to the embedding it was asked from. Both
can be left out, for the bare head of other teaching ladders.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from nanogpt_jax import functional as F
from nanogpt_jax.attention_kernel import OWN, Kernel
from nanogpt_jax.interface import Array, Key, LanguageModel, ModelShape
from nanogpt_jax.layers import Attention, Context, Sites, fan_in_uniform, normal, param, zeros
from nanogpt_jax.models import Stack, models
from nanogpt_jax.registry import positive


@models.named("single_head")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Knobs of `single_head`."""

    d_model: Annotated[int, "width of the residual stream", positive] = 128
    d_head: Annotated[int, "channels of the head", positive] = 32
    max_seq_len: Annotated[int, "longest context, in tokens", positive] = 128
    positions: Annotated[Literal["learned", "none"], "how a token knows its place"] = "learned"
    residual: Annotated[
        bool, "the head's answer is projected and added; without, it alone makes the scores"
    ] = True
    bias: Annotated[bool, "linear layers and the head have biases"] = False

    def problems(self) -> list[str]:
        """An answer that stays in the stream must fit into it."""
        if not self.residual and self.d_head > self.d_model:
            return [
                f"model.d_head={self.d_head} is wider than model.d_model={self.d_model}: only "
                "model.residual=True projects it"
            ]
        return []

    def shape(self, vocab_size: int) -> ModelShape:
        """One layer, one head."""
        return ModelShape("single_head", vocab_size, 1, 1, 1, self.d_model, self.max_seq_len)


class Ends(nn.Module):
    """Token and position embeddings below, linear head above, which reads `d_read` channels."""

    vocab_size: int
    d_model: int
    max_seq_len: int
    dtype: Any
    d_read: int
    positions: Literal["learned", "none"]
    bias: bool

    def setup(self) -> None:
        """Makes the tables."""
        V, D, T, R = self.vocab_size, self.d_model, self.max_seq_len, self.d_read
        self.w_embed_VD = param(self, "w_embed", (V, D), ("vocab", "embed"), normal(1.0))
        if self.positions == "learned":
            axes = ("position", "embed")
            self.w_position_TD = param(self, "w_position", (T, D), axes, normal(0.5))
        self.w_head_RV = param(self, "w_head", (R, V), ("embed", "vocab"), normal(0.02))
        if self.bias:
            self.b_head_V = param(self, "b_head", (V,), ("vocab",), zeros)

    def embed(self, inputs_BT: Array, positions_BT: Array, key: Key | None) -> Array:
        """What the token is, plus where it stands."""
        del key
        x_BTD = self.w_embed_VD[inputs_BT]
        if self.positions == "learned":
            x_BTD = x_BTD + self.w_position_TD[positions_BT]
        return x_BTD.astype(self.dtype)

    def unembed(self, x: Array) -> Array:
        """Scores of the next token."""
        read = x[..., : self.d_read]
        scores = F.linear_wide(read, self.w_head_RV)
        return scores + self.b_head_V if self.bias else scores


class Block(nn.Module):
    """x + attention(x), or attention(x) alone; padded to the width where nothing projects it."""

    n_head: int
    d_head: int
    residual: bool
    project: bool
    bias: bool
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
        D, mixed = x_BTD.shape[-1], self.n_head * self.d_head
        sites = Sites(capture, context.edits)
        x_BTD = sites("residual", x_BTD)
        attention = Attention(
            n_head=self.n_head,
            n_kv_head=self.n_head,
            d_head=self.d_head,
            init_in=fan_in_uniform(D, 1.0),
            init_out=fan_in_uniform(mixed, 1.0) if self.project else None,
            bias=self.bias,
            kernel=self.kernel,
            name="attention",
        )
        y_BTD, cache = attention(x_BTD, positions_BT, allowed_BTS, context, sites)
        if not self.project:
            y_BTD = jnp.pad(y_BTD, ((0, 0), (0, 0), (0, D - mixed)))
        return x_BTD + y_BTD if self.residual else y_BTD, (cache, sites.captured())


def build(
    config: Config,
    vocab_size: int,
    *,
    dtype: Any = jnp.float32,
    unroll: int | None = None,
    kernel: Kernel = OWN,
) -> LanguageModel:
    """The model as pure functions."""
    c = config
    d_read = c.d_model if c.residual else c.d_head
    return Stack(
        ends=Ends(vocab_size, c.d_model, c.max_seq_len, dtype, d_read, c.positions, c.bias),
        block=Block(1, c.d_head, c.residual, project=c.residual, bias=c.bias, kernel=kernel),
        shape=c.shape(vocab_size),
        d_head=c.d_head,
        dtype=dtype,
        unroll=unroll,
    ).model()
