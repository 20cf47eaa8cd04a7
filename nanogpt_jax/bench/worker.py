"""A contestant of a benchmark, in a process of its own.

python -m nanogpt_jax.bench.worker MODULE:FUNCTION JSON

FUNCTION(**JSON) prepares the work and returns a function that does one round of it; what that
returns, numbers by name, is told with its seconds. A line on stdin asks for a round. Only the
standard library is imported here, so that a peer's process holds nothing of ours.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Round = Callable[[], Mapping[str, Any]]


def main(place: str, arguments: str) -> None:
    """Prepares, says so, and does a round for every line that is read."""
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    module, _, function = place.partition(":")
    work: Round = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    print(json.dumps({"ready": True}), file=out, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, **found}), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
