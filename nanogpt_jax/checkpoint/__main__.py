"""What a run directory holds, in words and in digests.

python -m nanogpt_jax.checkpoint ls DIR [--json] [--newest]
python -m nanogpt_jax.checkpoint digest DIR [STEP]
"""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import jax

from nanogpt_jax import checkpoint, cli
from nanogpt_jax.checkpoint import table

Directory = Annotated[Path, "a run, or its checkpoints folder"]


def ls(
    dir: Directory,
    *,
    json: Annotated[bool, "print the sidecars as a JSON array"] = False,
    newest: Annotated[bool, "only the newest"] = False,
) -> None:
    """Lists the checkpoints of a run, oldest first."""
    run = _run_of(dir)
    checkpoint.choose(run, "last")  # a run without any is an error
    rows = table.rows(run)[-1 if newest else 0 :]
    print(dumps(rows, indent=2) if json else table.render(rows))


def digest(dir: Directory, step: cli.Step = "last") -> None:
    """Prints the SHA-256 of every array, and of the data position."""
    jax.config.update("jax_platforms", "cpu")  # an accelerator may be busy training this very run
    run = _run_of(dir)
    for name, value in checkpoint.digest_step(run, checkpoint.choose(run, step)).items():
        print(f"{value}  {name}")


def _run_of(directory: Path) -> Path:
    directory = directory.resolve()
    inside = directory.name == "checkpoints" and not (directory / "checkpoints").is_dir()
    return directory.parent if inside else directory


COMMANDS = {"ls": ls, "digest": digest}

if __name__ == "__main__":
    cli.run(COMMANDS, __doc__)
