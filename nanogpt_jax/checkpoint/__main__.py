"""What a run directory holds, in words and in digests.

python -m nanogpt_jax.checkpoint ls DIR [--json] [--newest]
python -m nanogpt_jax.checkpoint digest DIR [STEP]
python -m nanogpt_jax.checkpoint verify DIR [STEP]
python -m nanogpt_jax.checkpoint audit DIR
python -m nanogpt_jax.checkpoint replay DIR --step=N
python -m nanogpt_jax.checkpoint bisect DIR_A DIR_B
"""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import jax

from nanogpt_jax import checkpoint, cli
from nanogpt_jax.checkpoint import commit, table
from nanogpt_jax.errors import NanogptError, NoCheckpoint
from nanogpt_jax.registry import non_negative, positive

Directory = Annotated[Path, "a run, or its checkpoints folder"]


def ls(
    dir: Directory,
    *,
    json: Annotated[bool, "print the sidecars as a JSON array"] = False,
    newest: Annotated[bool, "only the newest"] = False,
) -> None:
    """Lists the checkpoints of a run, oldest first."""
    run = _run_of(dir)
    rows = table.rows(run)[-1 if newest else 0 :]
    if not rows:
        checkpoint.choose(run, "last")  # which says what there is
    print(dumps(rows, indent=2) if json else table.render(rows))


def digest(dir: Directory, step: cli.Step = "last") -> None:
    """Prints the SHA-256 of every array, and of the data position."""
    jax.config.update("jax_platforms", "cpu")  # an accelerator may be busy training this very run
    run = _run_of(dir)
    for name, value in checkpoint.digest_step(run, checkpoint.choose(run, step)).items():
        print(f"{value}  {name}")


def verify(
    dir: Directory, step: Annotated[int, "a step; every one if none is named", non_negative] = -1
) -> None:
    """Reads checkpoints whole; fails where a file is not what was saved."""
    run, bad = _run_of(dir), []
    for each in [step] if step >= 0 else commit.list_names(run):
        try:
            checkpoint.verify(run, each)
        except NoCheckpoint as error:
            bad.append(str(error))
        else:
            print(f"{each}  every file is what was saved")
    if bad:
        raise NoCheckpoint("\n".join(bad))
    if not commit.list_names(run):
        checkpoint.choose(run, "last")  # which says what there is


def audit(dir: Directory) -> None:
    """Holds metrics.jsonl to its hashes, steps and checkpoints, and names what does not fit."""
    from nanogpt_jax import audit

    cli.quiet()
    print(audit.audit(_run_of(dir)))


def replay(
    dir: Directory,
    *,
    step: Annotated[int, "the state whose update is executed again", positive],
    source: Annotated[str, "data.source, should the corpus lie elsewhere now"] = "",
) -> None:
    """Executes an update again and compares batch, loss and parameters with what the log says."""
    from nanogpt_jax import replay

    cli.quiet()
    found = replay.replay(_run_of(dir), step, source)
    print(found)
    if fact := found.difference:
        raise NanogptError(
            f"{fact.name} of step {fact.step} is the first that differs: {fact.recorded} recorded, "
            f"{fact.found} found; docs/audit.md says when that is to be expected"
        )


def bisect(dir_a: Directory, dir_b: Directory) -> None:
    """Finds the first step of which two logs do not say the same, and whether that is the data."""
    from nanogpt_jax import parting

    found = parting.find_parting(_run_of(dir_a), _run_of(dir_b))
    print(found)
    if found.step is not None:
        raise NanogptError(f"the runs part at step {found.step}: {found.cause}")


def _run_of(directory: Path) -> Path:
    directory = directory.resolve()
    inside = directory.name == "checkpoints" and not (directory / "checkpoints").is_dir()
    return directory.parent if inside else directory


COMMANDS = {
    "ls": ls,
    "digest": digest,
    "verify": verify,
    "audit": audit,
    "replay": replay,
    "bisect": bisect,
}

if __name__ == "__main__":
    cli.run(COMMANDS, __doc__)
