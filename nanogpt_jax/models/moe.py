"""A mixture of experts: `gpt` with several MLPs in the place of one, and a router between them.

The router (Shazeer et al. 2017, arXiv:1701.06538) gives every token probabilities over the
experts; the likeliest `n_active` answer, weighted by their probabilities renormalised to sum to 1.
Every expert is evaluated on every token, so nothing is dropped, no token waits for another, and a
model of this size needs no dispatch; it saves no computation either.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from nanogpt_jax import functional as F
from nanogpt_jax.attention_kernel import OWN, Kernel
from nanogpt_jax.interface import Array, LanguageModel, Mean, ModelShape
from nanogpt_jax.layers import Initializer, Sites, param, zeros
from nanogpt_jax.models import Stack, gpt, models
from nanogpt_jax.registry import non_negative, positive

BALANCE = "expert_balance"  # the auxiliary loss, and its metric train/expert_balance


@models.named("moe")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(gpt.Config):
    """Knobs of `moe`: those of `gpt`, whose MLP is every expert's, and of the mixture."""

    n_expert: Annotated[int, "experts of a layer", positive] = 4
    n_active: Annotated[int, "experts that answer a token", positive] = 2
    aux_weight: Annotated[
        float, "weight in the training loss of the loss that keeps experts in use", non_negative
    ] = 0.01

    def problems(self) -> list[str]:
        """Those of `gpt`, and counts of experts that cannot be."""
        found = super().problems()
        if not 1 <= self.n_active <= self.n_expert:
            found.append(
                f"model.n_active={self.n_active} of model.n_expert={self.n_expert} experts: at "
                "least 1 and at most all of them can answer a token"
            )
        if self.mup_base_width:
            found.append(
                f"model.mup_base_width={self.mup_base_width} with model.name='moe': its rules are "
                "those of gpt's matrices, and a router is none of them; use 0, or model.name=gpt"
            )
        return found

    def shape(self, vocab_size: int) -> ModelShape:
        """The numbers that name the model."""
        return super().shape(vocab_size)._replace(name="moe")


class Experts(nn.Module):
    """Router and experts; the sites `router` (probabilities) and `gates` (what is mixed)."""

    n_expert: int
    n_active: int
    d_hidden: int
    activation: str
    init_in: Initializer
    init_out: Initializer
    bias: bool = False

    @nn.compact
    def __call__(self, x_BTD: Array, sites: Sites) -> Array:
        E, D, Fh = self.n_expert, x_BTD.shape[-1], self.d_hidden
        p_BTE = sites("router", self._route(x_BTD))
        sites.leave(BALANCE, p_BTE)
        g_BTE = sites("gates", choose(p_BTE, self.n_active)).astype(x_BTD.dtype)

        h_BTEF = self._widen("up", x_BTD)
        if self.activation == "swiglu":
            h_BTEF = jax.nn.silu(self._widen("gate", x_BTD)) * h_BTEF
        else:
            h_BTEF = F.ACTIVATIONS[self.activation](h_BTEF)
        # Mixed before the product, which then sums over experts as it sums over hidden units.
        mixed_BTEF = h_BTEF * g_BTE[..., None]
        w_EFD = param(self, "w_down", (E, Fh, D), ("expert", "mlp", "embed"), self.init_out)
        y_BTD = jnp.einsum("BTEF,EFD->BTD", mixed_BTEF, w_EFD.astype(x_BTD.dtype))
        if self.bias:
            # Named for what it is: ("expert", "embed") would be a matrix to the optimizers.
            b_ED = param(self, "b_down", (E, D), ("expert", "channel"), zeros)
            y_BTD = y_BTD + jnp.einsum("BTE,ED->BTD", g_BTE, b_ED.astype(x_BTD.dtype))
        return y_BTD

    def _route(self, x_BTD: Array) -> Array:
        """Probabilities over the experts; in at least float32, for near ties decide who answers."""
        wide_BTD = F.at_least_float32(x_BTD)
        size = (x_BTD.shape[-1], self.n_expert)
        w_DE = param(self, "w_router", size, ("embed", "expert"), self.init_in)
        b_E = param(self, "b_router", size[1:], ("expert",), zeros)
        return jax.nn.softmax(jnp.einsum("BTD,DE->BTE", wide_BTD, w_DE) + b_E, axis=-1)

    def _widen(self, name: str, x_BTD: Array) -> Array:
        """The hidden layer of every expert."""
        size = (x_BTD.shape[-1], self.n_expert, self.d_hidden)
        w_DEF = param(self, f"w_{name}", size, ("embed", "expert", "mlp"), self.init_in)
        h_BTEF = jnp.einsum("BTD,DEF->BTEF", x_BTD, w_DEF.astype(x_BTD.dtype))
        if self.bias:
            b_EF = param(self, f"b_{name}", size[1:], ("expert", "mlp"), zeros)
            h_BTEF = h_BTEF + b_EF.astype(x_BTD.dtype)
        return h_BTEF


def choose(p_BTE: Array, n_active: int) -> Array:
    """The `n_active` largest probabilities of each token, renormalised to sum to 1; 0 elsewhere.

    Of equals the expert with the lowest index is chosen, so there are never more.
    """
    largest, chosen = jax.lax.top_k(p_BTE, n_active)
    share = largest / jnp.sum(largest, axis=-1, keepdims=True)
    return jnp.einsum(
        "BTK,BTKE->BTE", share, jax.nn.one_hot(chosen, p_BTE.shape[-1], dtype=share.dtype)
    )


def balance(p_LBTE: Array, weights_BT: Array) -> Mean:
    """E Σ_e (share of tokens whose likeliest expert is e) (mean probability of e).

    1 when the router is even, E when it knows one expert alone; the gradient goes through the
    probabilities (Fedus et al. 2021, arXiv:2101.03961). Shares and means are those of one row, as
    in DeepSeek-V3's loss of a sequence (2024, arXiv:2412.19437): a row is never split, so
    micro-shards and meshes agree with one big batch. A token counts as it counts in the loss:
    padding not at all. The mean over layers, then over rows by their tokens.
    """
    E = p_LBTE.shape[-1]
    likeliest_LBTE = jax.nn.one_hot(jnp.argmax(p_LBTE, axis=-1), E, dtype=p_LBTE.dtype)
    tokens_LBE = jnp.einsum("LBTE,BT->LBE", likeliest_LBTE, weights_BT)
    mass_LBE = jnp.einsum("LBTE,BT->LBE", p_LBTE, weights_BT)
    count_B = jnp.sum(weights_BT, axis=1)
    # Shares times means times tokens: of the two divisions by the tokens one is left.
    total_LB = E * jnp.sum(tokens_LBE * mass_LBE, axis=-1) / jnp.where(count_B > 0, count_B, 1)
    return Mean(jnp.sum(jnp.mean(total_LB, axis=0)), jnp.sum(count_B))


class Block(gpt.Block):
    """gpt's block with experts for its MLP."""

    config: Config

    def transform(self, h_BTD: Array, sites: Sites) -> Array:
        """The experts' answer."""
        c = self.config
        d_hidden = c.d_hidden or 4 * c.d_model
        init_in, init_out = gpt.initializers(c, c.d_model)[0], gpt.initializers(c, d_hidden)[1]
        experts = Experts(
            n_expert=c.n_expert,
            n_active=c.n_active,
            d_hidden=d_hidden,
            activation=c.activation,
            init_in=init_in,
            init_out=init_out,
            bias=c.bias,
            name="experts",
        )
        return experts(h_BTD, sites)


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
        ends=gpt.Ends(config, vocab_size, dtype),
        block=Block(config, kernel),
        shape=config.shape(vocab_size),
        d_head=config.d_head,
        dtype=dtype,
        unroll=unroll,
        remat=config.remat,
        auxiliary={BALANCE: balance},
    ).model()
