"""Two small layers on a few stories: seconds of training, for trying things out and for tests.

scripts/run python -m nanogpt_jax.main --config=configs/tiny.py
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import default_config


def get_config() -> ConfigDict:
    """A GPT of width 64, context 64, characters for tokens."""
    config = default_config(model="gpt", optimizer="adamw", schedule="warmup_cosine")
    config.data.stories = 500

    config.model.n_layer = 2
    config.model.n_head = 4
    config.model.n_kv_head = 2
    config.model.d_model = 64
    config.model.max_seq_len = 64

    config.train.steps = 100
    config.train.batch_size = 8
    config.train.seq_len = 64
    config.optimizer.learning_rate = 3e-3
    config.schedule.warmup_steps = 10
    config.eval.every_steps = 50
    config.eval.batches = 2
    config.eval.samples = 4
    config.checkpoint.every_steps = 50
    config.checkpoint.milestones = 4
    return config
