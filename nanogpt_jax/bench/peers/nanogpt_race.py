"""nanoGPT's recipe for a CPU, from the start of a process to each validation loss on its way.

python -m nanogpt_jax.bench.peers.nanogpt_race JSON

JSON are the arguments of `run`. The recipe is that of nanoGPT's readme (Karpathy 2022, "I only have
a macbook"): 4 layers of 128, 64 characters of context, 12 rows a batch, AdamW. It stops for no loss
and saves nothing; whoever started it ends it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import torch

from nanogpt_jax.bench.peers.nanogpt import GPT

LENGTH, ROWS = 64, 12
RATE, LEAST_RATE, WARMUP_STEPS = 1e-3, 1e-4, 100
# As many windows as one pass of an evaluation takes.
WINDOWS_AT_ONCE = 64


def run(
    *, train: str, val: str, metrics: str, seed: int, steps: int, every: int, compiled: bool
) -> None:
    """Trains on the file `train`; evaluates on `val` every so many steps, told in `metrics`."""
    torch.manual_seed(seed)
    texts = [Path(file).read_bytes().decode() for file in (train, val)]
    number_of = {each: number for number, each in enumerate(sorted(set("".join(texts))))}
    learned, held_out = (torch.tensor([number_of[each] for each in text]) for text in texts)

    model = GPT(4, 4, 128, LENGTH, len(number_of), bias=False)
    forward = torch.compile(model) if compiled else model
    optimizer = _adamw(model)
    for step in range(steps + 1):
        if step and step % every == 0:
            line = {"step": step, "val/loss": _evaluate(model, held_out)}
            with Path(metrics).open("a", encoding="utf-8") as file:
                print(json.dumps(line | {"t_monotonic": time.monotonic()}), file=file)
        starts = torch.randint(len(learned) - LENGTH, (ROWS,))
        rows = torch.stack([learned[start : start + LENGTH + 1] for start in starts])
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps)
        loss = forward(rows[:, :-1], rows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def rate_at(step: int, steps: int) -> float:
    """The learning rate: a warm-up, then half a cosine that ends at `steps`."""
    if step < WARMUP_STEPS:
        return RATE * (step + 1) / (WARMUP_STEPS + 1)
    turned = math.pi * min(1.0, (step - WARMUP_STEPS) / (steps - WARMUP_STEPS))
    return LEAST_RATE + (RATE - LEAST_RATE) * (1.0 + math.cos(turned)) / 2.0


def windows(ids: torch.Tensor) -> torch.Tensor:
    """All windows that tile `ids`, with the character after each: N rows of LENGTH + 1."""
    return ids.unfold(0, LENGTH + 1, LENGTH)


def _adamw(model: torch.nn.Module) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)


@torch.inference_mode()
def _evaluate(model: GPT, held_out: torch.Tensor) -> float:
    """Nats per character over all windows of the held-out text; never compiled."""
    rows = windows(held_out)
    parts = rows.split(WINDOWS_AT_ONCE)
    return sum(model(part[:, :-1], part[:, 1:]).item() * len(part) for part in parts) / len(rows)


if __name__ == "__main__":
    run(**json.loads(sys.argv[1]))
