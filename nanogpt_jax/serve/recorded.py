"""The config of a run directory as a config file: `--config=.../recorded.py:RUN`.

The command that trains reads config files, so whoever starts it again on what a run recorded names
this one. The folders of files are not recorded: what was one must be named anew.
"""

from __future__ import annotations

from pathlib import Path

from nanogpt_jax import record
from nanogpt_jax.config import Settings
from nanogpt_jax.experiment import SCHEMA


def get_config(workdir: str) -> Settings:
    """The config that the run in `workdir` was made with, younger fields at their defaults."""
    settings, _ = SCHEMA.complete(record.read(Path(workdir)).config)
    return settings
