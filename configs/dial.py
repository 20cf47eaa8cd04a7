"""One dial for everything: a depth, from which width, heads, batch, rates and decay follow.

    scripts/run python -m nanogpt_jax.plan --config=configs/dial.py:depth=12 --chip="NVIDIA H100"
    scripts/run python -m nanogpt_jax.main --config=configs/dial.py

The argument is depth=N, and if wanted ,tokens_per_parameter=X; without one it is depth=12. The
rules, each with its source, are in nanogpt_jax/dial.py. For accelerators, and no run of it is on
record here.
"""

from ml_collections import ConfigDict

from nanogpt_jax import dial
from nanogpt_jax.experiment import default_config

VOCAB_SIZE = 32_768
SEQ_LEN = 2048
ROWS = 16  # of a micro-shard


def get_config(asked: str = "depth=12") -> ConfigDict:
    """The model of one depth, and how it is trained."""
    depth, tokens_per_parameter = dial.read(asked)
    found = dial.turn(depth, tokens_per_parameter, VOCAB_SIZE, ROWS * SEQ_LEN)
    config = default_config(
        data="fineweb-edu", model="gpt", optimizer="muon", schedule="warmup_stable_decay"
    )
    config.data.format = "packed"
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocab_size = VOCAB_SIZE
    config.tokenizer.special_tokens = "chat"
    config.model.n_layer = depth
    config.model.d_model = found.d_model
    config.model.n_head = found.n_head
    config.model.max_seq_len = SEQ_LEN

    config.train.seq_len = SEQ_LEN
    config.train.batch_size = found.batch // SEQ_LEN
    config.train.accumulate_steps = found.batch // (ROWS * SEQ_LEN)
    config.train.steps = found.steps
    config.optimizer.learning_rate = found.learning_rate
    config.optimizer.embedding_ratio = found.embedding_ratio
    config.optimizer.head_ratio = found.head_ratio
    config.optimizer.weight_decay = found.weight_decay
    config.schedule.warmup_steps = 0
    config.schedule.decay_fraction = 0.5
    config.eval.every_steps = 250
    config.checkpoint.every_steps = 1000
    return config
