"""The GPT: attention and a position-wise network in residual blocks, stacked (rung 4 of 4).

One block covers the family from GPT-2 to nanochat by switches; the defaults are exactly the block
of transformers' NanoChatForCausalLM (RoPE, grouped kv heads, RMSNorm without parameters, QK-norm,
squared ReLU, softcapped logits, no biases).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

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
    Norm,
    Sites,
    drop,
    fan_in_uniform,
    normal,
    param,
    zeros,
)
from nanogpt_jax.models import Stack, models
from nanogpt_jax.registry import below_one, non_negative, positive


@models.named("gpt")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Knobs of `gpt`; 0 switches a number off where it says so."""

    n_layer: Annotated[int, "blocks", positive] = 4
    n_head: Annotated[int, "query heads", positive] = 4
    n_kv_head: Annotated[int, "key and value heads; 0 = n_head, 1 = MQA", non_negative] = 0
    d_model: Annotated[int, "width of the residual stream", positive] = 128
    d_hidden: Annotated[int, "hidden width of the MLP; 0 = 4 d_model", non_negative] = 0
    max_seq_len: Annotated[int, "longest context, in tokens", positive] = 128
    norm: Annotated[Literal["rms", "layer"], "RMSNorm or LayerNorm"] = "rms"
    norm_gain: Annotated[bool, "norms have a learned gain"] = False
    norm_eps: Annotated[float, "added to the variance in norms", positive] = 1e-6
    norm_position: Annotated[
        Literal["pre", "post"], "before each sublayer and the head, or after each residual sum"
    ] = "pre"
    embed_norm: Annotated[bool, "a norm right after the embedding"] = True
    positions: Annotated[Literal["rope", "learned", "none"], "how a token knows its place"] = "rope"
    rope_base: Annotated[float, "base of the rotary angles", positive] = 10000.0
    qk_norm: Annotated[
        Literal["off", "after_rope", "before_rope", "before_rope_gain"],
        "norm of queries and keys, per head; gain: with a learned one",
    ] = "after_rope"
    qkv_clamp: Annotated[
        float, "queries, keys, values stay within ±this; 0 = off", non_negative
    ] = 0.0
    activation: Annotated[
        Literal["relu2", "gelu", "gelu_tanh", "relu", "swiglu"], "of the MLP's hidden layer"
    ] = "relu2"
    bias: Annotated[bool, "linear layers (and LayerNorms) have biases"] = False
    tied_head: Annotated[bool, "the head is the transposed embedding"] = False
    head_bias: Annotated[bool, "the head has a bias"] = False
    logit_softcap: Annotated[float, "logits = c tanh(logits / c); 0 = off", non_negative] = 15.0
    logit_clamp: Annotated[float, "logits stay within ±this; 0 = off", non_negative] = 0.0
    dropout: Annotated[float, "share of activations dropped in training", below_one] = 0.0
    init: Annotated[
        Literal["nanochat", "gpt2", "kaiming"],
        "nanochat: fan-in uniform, residual outputs zero; gpt2: normal 0.02, residual outputs "
        "scaled by 1/sqrt(2 n_layer); kaiming: fan-in uniform with gain 0.5",
    ] = "nanochat"
    remat: Annotated[bool, "recompute blocks in the backward pass: less memory, more time"] = False
    mup_base_width: Annotated[
        int, "muP: the d_model at which the rates were found; 0 = off", non_negative
    ] = 0
    mup_base_head: Annotated[
        int, "muP: channels of a head there; 0 = as many as here", non_negative
    ] = 0

    @property
    def d_head(self) -> int:
        """Channels of a head."""
        return self.d_model // self.n_head

    @property
    def width_ratio(self) -> float:
        """Base width over width, by which muP shrinks what sums over the width; 1 without muP."""
        return self.mup_base_width / self.d_model if self.mup_base_width else 1.0

    def problems(self) -> list[str]:
        """Widths that do not divide, and switches that contradict each other."""
        found = []
        if self.d_model % self.n_head:
            found.append(
                f"model.d_model={self.d_model} is not a multiple of model.n_head={self.n_head}"
            )
        elif self.positions == "rope" and self.d_head % 2:
            found.append(
                f"model.d_model / model.n_head = {self.d_head} is odd: model.positions='rope' "
                "pairs channels and needs an even number"
            )
        if self.n_kv_head and self.n_head % self.n_kv_head:
            found.append(
                f"model.n_head={self.n_head} is not a multiple of model.n_kv_head={self.n_kv_head}"
            )
        return found + self._misfits()

    def _misfits(self) -> list[str]:
        """What muP's rules do not cover."""
        base, found = self.mup_base_width, []
        if not base:
            if self.mup_base_head:
                found.append(
                    f"model.mup_base_head={self.mup_base_head} needs model.mup_base_width, the "
                    "width at which heads had as many channels"
                )
            return found
        if self.tied_head:
            found.append(
                f"model.tied_head=True with model.mup_base_width={base}: the rate of a head falls "
                "with the width and that of an embedding does not, so they must be two tables; "
                "use model.tied_head=False"
            )
        if self.d_hidden not in (0, 4 * self.d_model):
            found.append(
                f"model.d_hidden={self.d_hidden} with model.mup_base_width={base}: the hidden "
                "width must grow as d_model does; use model.d_hidden=0, which is 4 d_model"
            )
        if base_head := self.mup_base_head or self.d_head:
            if base % base_head:
                found.append(
                    f"model.mup_base_width={base} is not a multiple of the {base_head} channels "
                    "that its heads have by model.mup_base_head (0: d_model / n_head)"
                )
        return found

    def shape(self, vocab_size: int) -> ModelShape:
        """The numbers that name the model."""
        return ModelShape(
            "gpt",
            vocab_size,
            self.n_layer,
            self.n_head,
            self.n_kv_head or self.n_head,
            self.d_model,
            self.max_seq_len,
        )


class Ends(nn.Module):
    """Embedding below; final norm, head and its caps above."""

    config: Config
    vocab_size: int
    dtype: Any

    def setup(self) -> None:
        """Makes the tables and norms that the switches ask for."""
        c, V, D = self.config, self.vocab_size, self.config.d_model
        embed_std, head_std = end_deviations(c)
        self.w_embed_VD = param(self, "w_embed", (V, D), ("vocab", "embed"), normal(embed_std))
        if c.positions == "learned":
            size = (c.max_seq_len, D)
            self.w_position_TD = param(
                self, "w_position", size, ("position", "embed"), normal(embed_std)
            )
        if not c.tied_head:
            gain = 0.5 * math.sqrt(c.width_ratio)
            init = fan_in_uniform(D, gain) if c.init == "kaiming" else normal(head_std)
            self.w_head_DV = param(self, "w_head", (D, V), ("embed", "vocab"), init)
        if c.head_bias:
            self.b_head_V = param(self, "b_head", (V,), ("vocab",), zeros)
        if c.embed_norm:
            self.norm_embed = norm(c, "norm_embed")
        if c.norm_position == "pre":
            self.norm_final = norm(c, "norm_final")

    def embed(self, inputs_BT: Array, positions_BT: Array, key: Key | None) -> Array:
        """The residual stream before the first block."""
        x_BTD = self.w_embed_VD[inputs_BT]
        if self.config.positions == "learned":
            x_BTD = x_BTD + self.w_position_TD[positions_BT]
        x_BTD = x_BTD.astype(self.dtype)
        if self.config.embed_norm:
            x_BTD = self.norm_embed(x_BTD)
        return drop(x_BTD, self.config.dropout, key, "embed")

    def unembed(self, x: Array) -> Array:
        """Scores of the next token."""
        c = self.config
        if c.norm_position == "pre":
            x = self.norm_final(x)
        w_DV = self.w_embed_VD.T if c.tied_head else self.w_head_DV
        # Wide from here on: near a cap of 15, bfloat16 tells only sixteenths of a nat apart.
        logits = F.linear_wide(x, w_DV)
        if c.head_bias:
            logits = logits + self.b_head_V
        if c.logit_clamp:
            logits = jnp.clip(logits, -c.logit_clamp, c.logit_clamp)
        return F.softcap(logits, c.logit_softcap) if c.logit_softcap else logits


def norm(c: Config, name: str) -> Norm:
    """The norm that the switches describe."""
    return Norm(c.norm, c.norm_eps, c.norm_gain, c.bias, name=name)


def end_deviations(c: Config) -> tuple[float, float]:
    """Standard deviations of embedding and head.

    Rows of a tied table have length 1: far enough apart that the first updates, alike for words
    that are used alike, do not make them one. (At first every token predicts itself, so the loss
    begins some nats above ln V.)

    Under muP a head's deviation is that of the base width, times base width over width.
    """
    unit, ratio = c.d_model**-0.5, c.width_ratio
    embed, head, tied = {
        "nanochat": (1.0, 0.001 * ratio, unit),
        "gpt2": (0.02, 0.02 * ratio, 0.02),
        "kaiming": (1.0, 0.5 * unit * math.sqrt(ratio), unit),
    }[c.init]
    return (tied, tied) if c.tied_head else (embed, head)


def initializers(c: Config, fan_in: int) -> tuple[Initializer, Initializer]:
    """Initialisers of a block's matrix: one that reads the stream, one that writes to it.

    Under muP the variance of a matrix falls as its inputs grow, as fan-in already has it.
    """
    if c.init == "gpt2":
        deviation = 0.02 * math.sqrt(c.width_ratio)
        return normal(deviation), normal(deviation * (2 * c.n_layer) ** -0.5)
    if c.init == "kaiming":
        return fan_in_uniform(fan_in, 0.5), fan_in_uniform(fan_in, 0.5)
    return fan_in_uniform(fan_in, 1.0), zeros


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); `post` norms after each sum instead."""

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
        c = self.config
        attention = attention_of(c, self.kernel)
        norm_attention, norm_mlp = norm(c, "norm_attention"), norm(c, "norm_mlp")
        pre = c.norm_position == "pre"
        sites = Sites(capture, context.edits)

        x_BTD = sites("residual", x_BTD)
        h_BTD = norm_attention(x_BTD) if pre else x_BTD
        y_BTD, cache = attention(h_BTD, positions_BT, allowed_BTS, context, sites)
        x_BTD = x_BTD + drop(y_BTD, c.dropout, context.key, "attention_out")
        x_BTD = x_BTD if pre else norm_attention(x_BTD)

        h_BTD = norm_mlp(x_BTD) if pre else x_BTD
        y_BTD = sites("mlp_out", self.transform(h_BTD, sites))
        x_BTD = x_BTD + drop(y_BTD, c.dropout, context.key, "mlp_out")
        x_BTD = x_BTD if pre else norm_mlp(x_BTD)
        return x_BTD, (cache, sites.captured())

    def transform(self, h_BTD: Array, sites: Sites) -> Array:
        """What the second half adds; moe.py puts its experts here."""
        del sites
        return mlp_of(self.config)(h_BTD)


def attention_of(c: Config, kernel: Kernel) -> Attention:
    """The attention that the switches describe."""
    init_in, init_out = initializers(c, c.d_model)
    return Attention(
        n_head=c.n_head,
        n_kv_head=c.n_kv_head or c.n_head,
        d_head=c.d_head,
        init_in=init_in,
        init_out=init_out,
        bias=c.bias,
        rope_base=c.rope_base if c.positions == "rope" else 0.0,
        qk_norm=c.qk_norm,
        norm=c.norm,
        norm_eps=c.norm_eps,
        qkv_clamp=c.qkv_clamp,
        logit_scale=math.sqrt((c.mup_base_head or c.d_head) / c.d_head),
        dropout=c.dropout,
        kernel=kernel,
        name="attention",
    )


def mlp_of(c: Config) -> MLP:
    """The MLP that the switches describe."""
    d_hidden = c.d_hidden or 4 * c.d_model
    init_in, init_out = initializers(c, c.d_model)[0], initializers(c, d_hidden)[1]
    return MLP(d_hidden, c.activation, init_in, init_out, c.bias, name="mlp")


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
        ends=Ends(config, vocab_size, dtype),
        block=Block(config, kernel),
        shape=config.shape(vocab_size),
        d_head=config.d_head,
        dtype=dtype,
        unroll=unroll,
        remat=config.remat,
    ).model()
