"""nanochat-rs's models, trained as Karpathy's nanochat is: Muon, half a million tokens a step.

    scripts/run python -m nanogpt_jax.main --config=configs/nanochat.py:d12
    scripts/run python -m nanogpt_jax.features

The argument is small, medium, large, readme, d12, d20, or the path of a JSON file with the
original's fields (sequence_len, vocab_size, n_layer, n_head, n_kv_head, n_embd, block_size,
dropout). The second command shows what the model claims, on a small one, in seconds.

For accelerators, and no run of it is on record here. The original trains nothing, so data,
tokenizer and optimizer are those of nanochat: FineWeb-Edu, rates of 0.02, 0.2 and 0.004 for
matrices, embedding and head.
"""

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict

from nanogpt_jax import nanochat
from nanogpt_jax.experiment import default_config


def get_config(size: str = "small") -> ConfigDict:
    """A model of `nanochat.SIZES`, or that of a JSON file."""
    chosen = nanochat.SIZES.get(size) or nanochat.read(Path(size))
    config = default_config(
        data="fineweb-edu", model="gpt", optimizer="muon", schedule="warmup_stable_decay"
    )
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocab_size = chosen.vocab_size
    config.tokenizer.special_tokens = "chat"
    config.model.update(dataclasses.asdict(nanochat.model_of(chosen)))

    config.train.steps = 20_000
    config.train.seq_len = chosen.sequence_len
    config.train.accumulate_steps = 16
    config.train.batch_size = 16 * max(1, 2**15 // chosen.sequence_len)
    config.optimizer.learning_rate = 0.02
    config.schedule.warmup_steps = 0
    config.schedule.decay_fraction = 0.2
    config.eval.every_steps = 250
    config.checkpoint.every_steps = 1000
    return config
