"""RustGPT's recipe: facts by heart, then dialogues by heart, then it answers.

scripts/run python -m nanogpt_jax.main --config=configs/rustgpt.py
scripts/run python -m nanogpt_jax.chat --workdir=checkpoints/rustgpt/dialogues --temperature=0

All 53 dialogues are answered word for word after training, none before (seeds 0, 1 and 2; also with
`:multi_head`, eight heads and an output projection), after 45 seconds of an AMD EPYC's core.
"""

from ml_collections import ConfigDict

from nanogpt_jax.data.sources.rustgpt_texts import DIALOGUES, FACTS
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import default_config

EPOCHS = 100
VARIANTS = {"single_head": (1, False), "multi_head": (8, True)}


def get_config(variant: str = "single_head") -> ConfigDict:
    """What both phases share; they go through the texts in file order, one at a time."""
    if variant not in VARIANTS:
        raise ConfigError(f"{variant!r} is no variant; known: {', '.join(VARIANTS)}")
    config = default_config(model="rustgpt", optimizer="adam", schedule="constant")
    config.model.n_head, config.model.output_projection = VARIANTS[variant]
    config.data.source = "bundled:facts"
    config.data.val_fraction = 0.0  # what is learned by heart is what is measured
    config.data.format = "documents"
    config.data.bos = False  # each ends with </s>
    config.data.window = "sequential"
    config.tokenizer.kind = "word"
    config.tokenizer.source = "mix:1*bundled:facts+1*bundled:dialogues"
    config.tokenizer.unknown = "drop"
    config.train.batch_size = 1
    config.train.seq_len = 32
    config.optimizer.clip_norm = 0.0
    config.optimizer.clip_logits_norm = 5.0
    config.eval.batches = max(len(FACTS), len(DIALOGUES))
    config.eval.prompt = "User: How do mountains form?"
    config.checkpoint.every_steps = 1000
    return config


def get_phases(variant: str = "single_head") -> dict[str, dict[str, object]]:
    """The second starts from the first, Adam's moments included, at a fifth of the rate."""
    del variant
    return {"facts": phase("facts", 5e-4), "dialogues": phase("dialogues", 1e-4)}


def phase(name: str, learning_rate: float) -> dict[str, object]:
    """EPOCHS epochs over one of the corpora."""
    epoch = len({"facts": FACTS, "dialogues": DIALOGUES}[name])
    return {
        "data.source": f"bundled:{name}",
        "train.steps": EPOCHS * epoch,
        "optimizer.learning_rate": learning_rate,
        "init.optimizer": name == "dialogues",
        "eval.every_steps": 10 * epoch,
        "log.every_steps": 5 * epoch,
    }
