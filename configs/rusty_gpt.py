"""rusty-gpt's ladder: a table, a bare head, bare heads, a GPT, and a GPT of experts.

    scripts/run python -m nanogpt_jax.main --config=configs/rusty_gpt.py:minigpt

The argument is embedding, single_head, multi_head, minigpt or moe. Shapes, biases, exact GELU,
LayerNorm and optimizer are the original's; initialisation, data and vocabulary are ours.
"""

from ml_collections import ConfigDict

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import default_config
from nanogpt_jax.registry import unknown

NAMES = ("embedding", "single_head", "multi_head", "minigpt", "moe")


def get_config(name: str = "minigpt") -> ConfigDict:
    """The model called `name` with the original's defaults."""
    if name not in NAMES:
        raise ConfigError(unknown("model", name, NAMES))
    deep = name in ("minigpt", "moe")
    config = default_config(
        model="gpt" if name == "minigpt" else name, optimizer="adamw", schedule="constant"
    )
    config.tokenizer.kind = "bpe" if deep else "char"
    config.tokenizer.vocab_size = 1590  # of a bpe: every word of the tales is one token

    config.model.d_model = 128
    config.model.max_seq_len = 128
    config.model.bias = True
    if name in ("single_head", "multi_head"):
        config.model.positions = "none"
        config.model.residual = False
    if deep:
        config.model.n_layer = 4
        config.model.n_head = 4
        config.model.norm = "layer"
        config.model.norm_gain = True
        config.model.norm_eps = 1e-5
        config.model.embed_norm = False
        config.model.positions = "learned"
        config.model.qk_norm = "off"
        config.model.activation = "gelu"
        config.model.head_bias = True
        config.model.logit_softcap = 0.0
        config.model.init = "gpt2"

    config.train.steps = 1000
    config.train.batch_size = 32
    config.train.seq_len = 128
    config.optimizer.learning_rate = 1e-4
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-5
    config.optimizer.weight_decay = 1e-4
    config.optimizer.clip_norm = 1.0 if deep else 0.0
    return config
