"""Rung 2 of the ladder: one attention head over the embeddings.

scripts/run python -m nanogpt_jax.main --config=configs/single_head.py

Seed 0 as a rung of configs/compare.py, on two cores of an AMD EPYC: 0.0119 nats
per character above the entropy after 1000 updates, 41 s; 45 % of 64 sampled stories are possible.
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import default_config


def get_config() -> ConfigDict:
    """One head of 32 channels, learned positions."""
    config = default_config(model="single_head", optimizer="muon", schedule="warmup_stable_decay")
    config.data.source = "bundled:tales"
    config.data.format = "packed"
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocab_size = 1590  # every word of the tales is one token

    config.model.d_model = 128
    config.model.max_seq_len = 128

    config.train.steps = 1000
    config.train.batch_size = 32
    config.train.seq_len = 128
    config.optimizer.learning_rate = 0.012
    config.optimizer.embedding_ratio = 1.0
    config.schedule.warmup_steps = 20
    config.schedule.decay_fraction = 0.8
    config.eval.every_steps = 250
    config.log.every_steps = 20
    return config
