"""A modern 4-layer GPT on small stories.

scripts/run python -m nanogpt_jax.main --config=configs/minigpt.py
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import default_config


def get_config() -> ConfigDict:
    """The block of transformers' NanoChatForCausalLM, trained with Muon."""
    config = default_config(model="gpt", optimizer="muon", schedule="warmup_stable_decay")
    config.data.source = "bundled:tales"
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocab_size = 1024

    config.model.n_layer = 4
    config.model.n_head = 4
    config.model.n_kv_head = 2
    config.model.d_model = 128
    config.model.max_seq_len = 128

    config.train.steps = 1000
    config.train.batch_size = 32
    config.train.seq_len = 128
    config.optimizer.learning_rate = 0.02
    config.schedule.warmup_steps = 20
    return config
