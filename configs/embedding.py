"""Rung 1 of the ladder: a table from each token to the next, on the same stories as minigpt.

scripts/run python -m nanogpt_jax.main --config=configs/embedding.py

Seed 0 as a rung of configs/compare.py, on two cores of an AMD EPYC: 0.3212 nats
per character above the entropy after 1000 updates, 35 s.
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import default_config


def get_config() -> ConfigDict:
    """One token of context, so this is the best that bigrams can do."""
    config = default_config(model="embedding", optimizer="muon", schedule="warmup_stable_decay")
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
