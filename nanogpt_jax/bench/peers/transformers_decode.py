"""transformers' GPT-2 with its cache: what our decoding is measured beside.

A plain loop around the model, which spares it what `generate` does beside (it checks and copies its
arguments, and asks criteria after every token). Nothing of ours is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers

PROMPT_TOKENS = 16
THREADS = 2


def complete(
    *, n_layer: int, n_head: int, d_model: int, length: int, vocab: int, batch: int, tokens: int
) -> Callable[[], Mapping[str, Any]]:
    """A round of `tokens` greedy tokens after each of `batch` prompts."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=vocab, n_positions=length, n_embd=d_model, n_layer=n_layer, n_head=n_head
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    prompts = torch.randint(vocab, (batch, PROMPT_TOKENS))

    @torch.inference_mode()
    def work() -> Mapping[str, Any]:
        read, cache, drawn = prompts, transformers.DynamicCache(config=config), []
        for _ in range(tokens):
            output = model(read, past_key_values=cache, use_cache=True, logits_to_keep=1)
            read = output.logits[:, -1].argmax(dim=-1, keepdim=True)
            drawn.append(read)
        return {"tokens": torch.cat(drawn, dim=1).numel()}

    return work
