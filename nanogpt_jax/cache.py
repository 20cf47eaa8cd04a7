"""Where things lie that can be made again, shared between runs: text, tokens, programs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """`NANOGPT_CACHE`, else nanogpt_jax in the user's cache folder."""
    if given := os.environ.get("NANOGPT_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nanogpt_jax"
