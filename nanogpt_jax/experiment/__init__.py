"""Assembly: from a config to objects, and from a run directory to objects.

The only package that imports every registry. `resolve` checks a config without touching a device or
a file; `assemble` builds what training needs; `load` reads what sampling and evaluation need.
"""

from nanogpt_jax.experiment.assembly import Run, assemble
from nanogpt_jax.experiment.files import load_config, load_phases, load_variants
from nanogpt_jax.experiment.opening import (
    Loaded,
    load,
    open_drafts,
    open_evaluator,
    prompt_tokens,
)
from nanogpt_jax.experiment.plan import SCHEMA, Plan, default_config, resolve

__all__ = [
    "SCHEMA",
    "Loaded",
    "Plan",
    "Run",
    "assemble",
    "default_config",
    "load",
    "load_config",
    "load_phases",
    "load_variants",
    "open_drafts",
    "open_evaluator",
    "prompt_tokens",
    "resolve",
]
