"""Rung 2 of the ladder: one attention head over the embeddings.

scripts/run python -m nanogpt_jax.main --config=configs/single_head.py
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import default_config


def get_config() -> ConfigDict:
    """One head of 32 channels, learned positions."""
    config = default_config(model="single_head", optimizer="adamw", schedule="warmup_cosine")
    config.data.source = "bundled:tales"
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocab_size = 1024

    config.model.d_model = 128
    config.model.max_seq_len = 128

    config.train.steps = 1000
    config.train.batch_size = 32
    config.train.seq_len = 128
    config.optimizer.learning_rate = 5e-3
    config.schedule.warmup_steps = 50
    return config
