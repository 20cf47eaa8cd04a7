"""Looking into a model: what it attends to, what it would say earlier, what each part is for.

Functions from a model, its parameters and one prompt to NumPy arrays, made of what every model
offers: capture, edits and `unembed`. `observation` looks, `intervention` changes and looks again.
Nothing here draws, keeps or serves anything.

A program is compiled once per model and length; with `padded_length` all prompts up to it share
one, for later tokens never reach earlier positions, and what is padded is cut off. A model without
the site that a function looks at is a ValueError that names the site.

Letters beside those of interface.py: H query heads, E experts, A alternatives, M = L + 1 depths of
the residual stream, P = T - 1 predicted tokens (entry p is token p + 1, scored at position p).
Losses, log-probabilities and entropies are in nats; divided by ln 2 they are bits.
"""

from nanogpt_jax.inspection.intervention import (
    HeadAblation,
    MLPAblation,
    Patching,
    ablate_heads,
    ablate_mlps,
    patch_heads,
    patch_positions,
    silence,
)
from nanogpt_jax.inspection.observation import (
    Attention,
    Lens,
    Predictions,
    Routing,
    attention,
    logit_lens,
    predict,
    routing,
)

__all__ = [
    "Attention",
    "HeadAblation",
    "Lens",
    "MLPAblation",
    "Patching",
    "Predictions",
    "Routing",
    "ablate_heads",
    "ablate_mlps",
    "attention",
    "logit_lens",
    "patch_heads",
    "patch_positions",
    "predict",
    "routing",
    "silence",
]
