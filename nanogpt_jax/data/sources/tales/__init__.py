"""Small English stories from a grammar written here, whose entropy is known exactly.

A model trained on them is measured against the truth: `log_probability` is the floor under its loss
and the judge of its samples. algebra.py is the theory, plots.py and words.py are the tales.
"""

from nanogpt_jax.data.sources.tales.engine import (
    entropy_nats,
    entropy_per_character,
    explain_invalid,
    log_probability,
    mean_characters,
    story,
)

__all__ = [
    "entropy_nats",
    "entropy_per_character",
    "explain_invalid",
    "log_probability",
    "mean_characters",
    "story",
]
