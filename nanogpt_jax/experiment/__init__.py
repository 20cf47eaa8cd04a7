"""Assembly: from a config to objects, and from a run directory to objects.

The only package that imports every registry. `resolve` checks a config without touching a device or
a file; `assemble` builds what training needs; `load` reads what sampling and evaluation need.
"""

from nanogpt_jax.experiment.assembly import Run, assemble, assemble_beside, vocabulary_size
from nanogpt_jax.experiment.building import build_hyper, build_model, build_recipe
from nanogpt_jax.experiment.files import load_config, load_phases, load_variants
from nanogpt_jax.experiment.opening import (
    Loaded,
    Opened,
    load,
    open_drafts,
    open_evaluator,
    open_run,
    prompt_tokens,
)
from nanogpt_jax.experiment.plan import SCHEMA, Plan, default_config, resolve

__all__ = [
    "SCHEMA",
    "Loaded",
    "Opened",
    "Plan",
    "Run",
    "assemble",
    "assemble_beside",
    "build_hyper",
    "build_model",
    "build_recipe",
    "default_config",
    "load",
    "load_config",
    "load_phases",
    "load_variants",
    "open_drafts",
    "open_evaluator",
    "open_run",
    "prompt_tokens",
    "resolve",
    "vocabulary_size",
]
