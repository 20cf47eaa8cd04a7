"""A run for the tests of bench/race.py: python -m tests.raced METRICS LOSS..., a line for each."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(metrics: str, *losses: str) -> None:
    """Writes the losses as evaluations of steps 0, 1, ..., then says that it has none left."""
    with Path(metrics).open("w") as file:
        for step, loss in enumerate(losses):
            line = {"step": step, "val/loss": float(loss), "t_monotonic": time.monotonic()}
            print(json.dumps(line), file=file, flush=True)
    print("out of steps", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
