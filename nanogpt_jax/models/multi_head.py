"""Several heads side by side: one may find the speaker while another finds the verb (rung 3 of 4).

The same two ends and the same block as `single_head`, with the width split over `n_head` heads.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import jax.numpy as jnp

from nanogpt_jax.attention_kernel import OWN, Kernel
from nanogpt_jax.interface import LanguageModel, ModelShape
from nanogpt_jax.models import Stack, models
from nanogpt_jax.models.single_head import Block, Ends
from nanogpt_jax.registry import positive


@models.named("multi_head")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Knobs of `multi_head`."""

    n_head: Annotated[int, "attention heads", positive] = 4
    d_model: Annotated[int, "width of the residual stream", positive] = 128
    max_seq_len: Annotated[int, "longest context, in tokens", positive] = 128
    positions: Annotated[Literal["learned", "none"], "how a token knows its place"] = "learned"
    residual: Annotated[
        bool, "the heads' answer is added to the embedding; without, it alone makes the scores"
    ] = True
    bias: Annotated[bool, "linear layers and the head have biases"] = False

    def problems(self) -> list[str]:
        """The heads share the width."""
        if self.d_model % self.n_head:
            return [f"model.d_model={self.d_model} is not a multiple of model.n_head={self.n_head}"]
        return []

    def shape(self, vocab_size: int) -> ModelShape:
        """One layer of heads."""
        H = self.n_head
        return ModelShape("multi_head", vocab_size, 1, H, H, self.d_model, self.max_seq_len)


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
    d_head = c.d_model // c.n_head
    return Stack(
        ends=Ends(vocab_size, c.d_model, c.max_seq_len, dtype, c.d_model, c.positions, c.bias),
        block=Block(c.n_head, d_head, c.residual, project=True, bias=c.bias, kernel=kernel),
        shape=c.shape(vocab_size),
        d_head=d_head,
        dtype=dtype,
        unroll=unroll,
    ).model()
