"""Several heads side by side: one may find the speaker while another finds the verb (rung 3 of 4).

The same two ends and the same block as `single_head`, with the width split over `n_head` heads.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp

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
    config: Config, vocab_size: int, *, dtype: Any = jnp.float32, unroll: int | None = None
) -> LanguageModel:
    """The model as pure functions."""
    d_head = config.d_model // config.n_head
    return Stack(
        ends=Ends(vocab_size, config.d_model, config.max_seq_len, dtype),
        block=Block(config.n_head, d_head),
        shape=config.shape(vocab_size),
        d_head=d_head,
        dtype=dtype,
        unroll=unroll,
    ).model()
