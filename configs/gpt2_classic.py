"""GPT-2's block (Radford et al. 2019) at minigpt's size, on the same stories.

scripts/run python -m nanogpt_jax.main --config=configs/gpt2_classic.py
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import default_config


def get_config() -> ConfigDict:
    """LayerNorm with gain and bias, learned positions, tanh GELU, biases, a tied head, AdamW."""
    config = default_config(model="gpt", optimizer="adamw", schedule="warmup_cosine")
    config.data.source = "bundled:tales"
    config.data.format = "packed"
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocab_size = 1590  # every word of the tales is one token

    config.model.n_layer = 4
    config.model.n_head = 4
    config.model.d_model = 128
    config.model.max_seq_len = 128
    config.model.norm = "layer"
    config.model.norm_gain = True
    config.model.norm_eps = 1e-5
    config.model.embed_norm = False
    config.model.positions = "learned"
    config.model.qk_norm = "off"
    config.model.activation = "gelu_tanh"
    config.model.bias = True
    config.model.tied_head = True
    config.model.logit_softcap = 0.0
    config.model.dropout = 0.0
    config.model.init = "gpt2"

    config.train.steps = 1000
    config.train.batch_size = 32
    config.train.seq_len = 128
    config.optimizer.learning_rate = 2e-3
    config.schedule.warmup_steps = 100
    return config
