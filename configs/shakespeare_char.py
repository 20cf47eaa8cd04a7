"""nanoGPT's recipe for Tiny Shakespeare on a CPU: a GPT-2 of 0.8M parameters, 2000 steps.

    scripts/run python -m nanogpt_jax.main --config=configs/shakespeare_char.py

The text is downloaded once, or taken from the folder that NANOGPT_DATA names.
nanoGPT reports a validation loss of 1.88 (github.com/karpathy/nanoGPT, "I only have a macbook").
Here, over the whole held-out text: 1.902 ± 0.006 with its rate of 1e-3, 1.820 ± 0.006 with 2e-3,
under two minutes on two cores of an AMD EPYC.
"""

from ml_collections import ConfigDict

from nanogpt_jax.experiment import default_config


def get_config() -> ConfigDict:
    """nanoGPT's model, batch and schedule, in characters."""
    config = default_config(
        data="shakespeare", model="gpt", optimizer="adamw", schedule="warmup_cosine"
    )
    config.seed = 1337
    config.tokenizer.kind = "char"

    config.model.n_layer = 4
    config.model.n_head = 4
    config.model.d_model = 128
    config.model.max_seq_len = 64
    config.model.norm = "layer"
    config.model.norm_gain = True
    config.model.norm_eps = 1e-5
    config.model.embed_norm = False
    config.model.positions = "learned"
    config.model.qk_norm = "off"
    config.model.activation = "gelu"
    config.model.tied_head = True
    config.model.logit_softcap = 0.0
    config.model.init = "gpt2"

    config.train.steps = 2000
    config.train.batch_size = 12
    config.train.seq_len = 64
    config.optimizer.learning_rate = 2e-3  # nanoGPT's recipe has 1e-3
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.1
    config.schedule.warmup_steps = 100
    config.schedule.min_ratio = 0.1
    config.eval.every_steps = 250
    config.eval.batches = 40
    config.checkpoint.every_steps = 500
    return config
