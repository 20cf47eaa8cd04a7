"""GPT-2 in PyTorch, plainly and at its best: what our training step is measured beside.

The architecture of nanoGPT (Karpathy 2022): LayerNorm and biases as asked, fused query, key and
value, scaled_dot_product_attention, tanh-free GELU, a tied head, fused AdamW, clipped gradients.
Torch alone; nothing of ours is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, n_head: int, d_model: int, bias: bool):
        super().__init__()
        self.n_head = n_head
        self.norm_attention = nn.LayerNorm(d_model, bias=bias)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)
        self.norm_mlp = nn.LayerNorm(d_model, bias=bias)
        self.up = nn.Linear(d_model, 4 * d_model, bias=bias)
        self.down = nn.Linear(4 * d_model, d_model, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        heads = self.qkv(self.norm_attention(x)).view(B, T, 3, self.n_head, D // self.n_head)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


class GPT(nn.Module):
    """Logits and mean loss of next tokens."""

    def __init__(
        self, n_layer: int, n_head: int, d_model: int, length: int, vocab: int, bias: bool
    ):
        super().__init__()
        self.tokens = nn.Embedding(vocab, d_model)
        self.positions = nn.Embedding(length, d_model)
        self.blocks = nn.ModuleList(Block(n_head, d_model, bias) for _ in range(n_layer))
        self.norm = nn.LayerNorm(d_model, bias=bias)
        self.head = nn.Linear(d_model, vocab, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                scale = (2 * n_layer) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1
                nn.init.normal_(parameter, std=0.02 * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.tokens(inputs) + self.positions.weight[: inputs.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def train(
    *,
    n_layer: int,
    n_head: int,
    d_model: int,
    length: int,
    batch: int,
    vocab: int,
    steps: int,
    dtype: str,
    compiled: bool,
) -> Callable[[], Mapping[str, Any]]:
    """A round of `steps` updates, the loss read after each; bfloat16 by autocast."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = GPT(n_layer, n_head, d_model, length, vocab, bias=False).to(device)
    run = torch.compile(model) if compiled else model
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-3,
        betas=(0.9, 0.99),
        fused=True,
    )
    text = torch.randint(vocab, (8, batch, length + 1), device=device)
    half = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def work() -> Mapping[str, Any]:
        loss = 0.0
        for step in range(steps):
            rows = text[step % len(text)]
            with half:
                nats = run(rows[:, :-1], rows[:, 1:])
            nats.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss = nats.item()
        return {"loss": loss}

    return work


def attention(
    *, batch: int, heads: int, length: int, channels: int, repeats: int, dtype: str
) -> Callable[[], Mapping[str, Any]]:
    """A round of causal attention, forward and backward, `repeats` times."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, dtype)
    shape = (batch, heads, length, channels)
    q, k, v = (torch.randn(shape, dtype=kind, device=device, requires_grad=True) for _ in range(3))
    weights = torch.randn(shape, dtype=kind, device=device)

    def work() -> Mapping[str, Any]:
        for _ in range(repeats):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            torch.autograd.grad(y, (q, k, v), weights)
        return {}

    return work


def matmul(*, size: int, repeats: int, dtype: str) -> Callable[[], Mapping[str, Any]]:
    """A round of square products."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, dtype=getattr(torch, dtype), device=device) for _ in range(2))

    def work() -> Mapping[str, Any]:
        for _ in range(repeats):
            c = a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        return {"corner": float(c[0, 0])}

    return work
