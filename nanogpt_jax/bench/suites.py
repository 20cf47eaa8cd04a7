"""The contests: who does which work beside whom, and what is to be reached.

A row of a table is one contest. Its target is a ratio of rates, and holds when the 95 % interval of
that ratio lies above it. Work is named here and done in ours.py and peers/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nanogpt_jax.bench.contest import Contestant

OURS, TORCH = "nanogpt_jax.bench.ours", "nanogpt_jax.bench.peers.nanogpt"
SMALL = {"n_layer": 4, "n_head": 4, "d_model": 128, "length": 64, "batch": 12, "vocab": 65}
LARGE = {"n_layer": 6, "n_head": 6, "d_model": 384, "length": 256, "batch": 16, "vocab": 65}
HEADS = {"batch": 16, "heads": 6, "length": 256, "channels": 64}


class Contest(NamedTuple):
    """`amount` of `unit` is done in a round; `ours` is to be `target` times as fast as `rival`."""

    row: str
    amount: float
    unit: str
    contestants: Sequence[Contestant]
    ours: str = "ours"
    rival: str = ""
    target: float | None = None


def ceiling(torch: bool) -> list[Contest]:
    """Square products: what the machine gives to whoever multiplies."""
    found = []
    for dtype in ("float32", "bfloat16"):
        work = {"size": 2048, "repeats": 4, "dtype": dtype}
        flops = 2 * 2048**3 * 4
        found.append(
            Contest(f"matmul 2048 {dtype}", flops / 1e9, "GFLOP", _sides("matmul", work, torch))
        )
    return found


def train(torch: bool) -> list[Contest]:
    """Whole updates of GPT-2's block, the loss read at every one."""
    targets = {("4x128", "float32"): 1.1, ("6x384", "float32"): 1.0, ("6x384", "bfloat16"): 0.7}
    found = []
    for (name, dtype), target in targets.items():
        sizes, steps = (SMALL, 20) if name == "4x128" else (LARGE, 1)
        work = {**sizes, "steps": steps, "dtype": dtype}
        sides = [Contestant("ours", f"{OURS}:train", work)]
        if torch:
            for mode, compiled in (("torch eager", False), ("torch.compile", True)):
                peer = {**work, "compiled": compiled}
                sides.append(Contestant(mode, f"{TORCH}:train", peer))
        tokens = steps * sizes["batch"] * sizes["length"]
        row = f"train {name} T{sizes['length']} B{sizes['batch']} {dtype}"
        found.append(Contest(row, tokens, "token", sides, rival="torch.compile", target=target))
    return found


def attention(torch: bool) -> list[Contest]:
    """Causal attention alone, forward and backward."""
    work = {**HEADS, "repeats": 4, "dtype": "float32"}
    # Two products forward and five backward, half of them masked.
    flops = 7 * HEADS["batch"] * HEADS["heads"] * HEADS["length"] ** 2 * HEADS["channels"] * 4
    row = "attention B16 H6 T256 C64 float32"
    sides = _sides("attention", work, torch)
    return [Contest(row, flops / 1e9, "GFLOP", sides, rival="torch", target=1.0)]


def _sides(function: str, work: Mapping[str, Any], torch: bool) -> list[Contestant]:
    sides = [Contestant("ours", f"{OURS}:{function}", work)]
    return [*sides, Contestant("torch", f"{TORCH}:{function}", work)] if torch else sides


SUITES = {"ceiling": ceiling, "train": train, "attention": attention}
