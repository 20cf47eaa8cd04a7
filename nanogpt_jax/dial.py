"""What follows from a depth: nanochat's rules, found at depth 12 and carried to others.

| | rule | source |
|---|---|---|
| width | 64 a layer, rounded up to whole heads of 128 | nanochat |
| tokens D | 10.5 a parameter of matrices and head | nanochat; Chinchilla: 20, arXiv:2203.15556 |
| batch B | 2^19 tokens (D / D12)^0.383, a power of two | Bergsma et al. 2025, arXiv:2505.13738 |
| rates | 0.02, 0.3, 0.004 for matrices, embedding, head, times (B / 2^19)^(1/2) | nanochat |
| of those, Adam's | also times (width / 768)^(-1/2) | nanochat |
| decay | 0.2 (B / 2^19)^(1/2) D12 / D: B / (rate decay D) stays | arXiv:2405.13698 |

nanochat is Karpathy 2025, scripts/base_train.py. Its decay spares weights that the gradient already
shrinks, and falls to 0 over the run; ours does neither.
"""

from __future__ import annotations

import math
from typing import NamedTuple

TOKENS_PER_PARAMETER = 10.5
D_HEAD = 128
TUNED_DEPTH, TUNED_WIDTH, TUNED_BATCH = 12, 768, 2**19


class Dialled(NamedTuple):
    """What a depth makes of everything else; the batch is in tokens."""

    d_model: int
    n_head: int
    batch: int
    steps: int
    learning_rate: float  # of matrices
    embedding_ratio: float  # to the rate of matrices
    head_ratio: float
    weight_decay: float


def read(dial: str) -> tuple[int, float]:
    """Depth and tokens per parameter of `depth=N[,tokens_per_parameter=X]`; ValueError if not."""
    asked = {"tokens_per_parameter": TOKENS_PER_PARAMETER}
    for part in dial.split(","):
        name, _, number = part.partition("=")
        if name not in ("depth", "tokens_per_parameter"):
            raise ValueError(f"{part!r}: depth=N or tokens_per_parameter=X is required")
        asked[name] = float(number)
    depth, ratio = asked.get("depth", 0.0), asked["tokens_per_parameter"]
    if depth < 1 or depth % 1 or not ratio > 0:
        raise ValueError(f"{dial!r}: a whole depth of 1 or more, and more than 0 tokens")
    return int(depth), ratio


def turn(depth: int, tokens_per_parameter: float, vocab_size: int, least_batch: int) -> Dialled:
    """Everything, of a model of `depth` layers; no batch is smaller than `least_batch` tokens."""
    d_model = width(depth)
    tokens, tuned_tokens = (
        tokens_per_parameter * multiplied(each, vocab_size) for each in (depth, TUNED_DEPTH)
    )
    batch = 2 ** round(math.log2(TUNED_BATCH * (tokens / tuned_tokens) ** 0.383))
    batch = max(batch, least_batch)
    by_batch, by_width = math.sqrt(batch / TUNED_BATCH), math.sqrt(TUNED_WIDTH / d_model)
    return Dialled(
        d_model=d_model,
        n_head=d_model // D_HEAD,
        batch=batch,
        steps=math.ceil(tokens / batch),
        learning_rate=0.02 * by_batch,
        embedding_ratio=0.3 / 0.02 * by_width,
        head_ratio=0.004 / 0.02 * by_width,
        weight_decay=0.2 * by_batch * tuned_tokens / tokens,
    )


def width(depth: int) -> int:
    """64 channels a layer, in whole heads."""
    return math.ceil(64 * depth / D_HEAD) * D_HEAD


def multiplied(depth: int, vocab_size: int) -> int:
    """Parameters of matrices and head, those that every token is multiplied with."""
    return 12 * depth * width(depth) ** 2 + vocab_size * width(depth)
