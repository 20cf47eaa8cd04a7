"""Several variants of one config, each an ordinary run, compared in a table."""
from __future__ import annotations
def compare(*a, **k): raise SystemExit("later")
