"""The four rungs of the ladder on the same stories: what a head, more heads, and depth each add.

    scripts/run python -m nanogpt_jax.main --config=configs/compare.py

Four run directories under checkpoints/compare/, a table, comparison.csv and comparison.png.
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import default_config


def get_config() -> ConfigDict:
    """What all rungs share."""
    config = default_config(model="gpt", optimizer="adamw", schedule="warmup_cosine")
    config.data.source = "bundled:tales"
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocab_size = 1024
    config.train.steps = 1000
    config.train.batch_size = 32
    config.train.seq_len = 128
    config.optimizer.learning_rate = 5e-3
    config.schedule.warmup_steps = 50
    return config


def get_variants() -> dict[str, dict[str, object]]:
    """One model a rung."""
    return {
        "embedding": {"model.name": "embedding"},
        "single_head": {"model.name": "single_head"},
        "multi_head": {"model.name": "multi_head"},
        "gpt": {"model.name": "gpt", "model.n_kv_head": 2},
    }
