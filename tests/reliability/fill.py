"""Saves into a small file system until it is full, clears it, and saves again.

    python -m tests.reliability.fill FOLDER

Prints what the failing save said; fails where an earlier step is lost or nothing was told.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nanogpt_jax.checkpoint import list_steps
from nanogpt_jax.errors import NanogptError
from tests.reliability.saving import digests, go_on, save

MOST = 50


def main(folder: Path) -> None:
    """Fills `folder`; a ballast file is what goes away later."""
    run, ballast = folder / "run", folder / "ballast"
    ballast.write_bytes(bytes(512 << 10))
    for step in range(1, MOST):
        try:
            save(run, [step], keep=MOST)
        except NanogptError as error:
            print(error)
            break
    else:
        raise AssertionError(f"{MOST} saves have found room")
    assert list_steps(run) == list(digests(run)) == list(range(1, step)), "earlier steps"
    ballast.unlink()
    assert go_on(run) == step - 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
