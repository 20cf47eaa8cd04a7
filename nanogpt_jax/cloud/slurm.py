"""Scripts for sbatch: what all of ours ask of Slurm, and one run over several nodes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from nanogpt_jax.errors import ExitCode


def head(name: str, output: str, options: Sequence[str]) -> str:
    """The first lines of a script: preempted, the job is queued again and its run goes on.

    Slurm sends SIGTERM two minutes before the end of its time, in which the run is saved.
    """
    lines = [f"--job-name={name}", *options, "--requeue", "--open-mode=append"]
    lines += ["--signal=TERM@120", f"--output={output}"]
    return "#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in lines) + "set -euo pipefail\n"


def one_run(
    name: str,
    words: Sequence[str],
    *,
    root: Path,
    folder: Path,
    nodes: int,
    processes: int,
    options: Sequence[str],
) -> str:
    """A job whose processes, `processes` on each node, are one run; they find each other.

    Told that its time is over, it saves and queues again; Slurm itself does that only to jobs
    that are preempted or lose a node.
    """
    size = [f"--nodes={nodes}", f"--ntasks-per-node={processes}"]
    return f"""{head(name, f"{folder}/slurm-%j.log", [*size, *options])}\
cd {shlex.quote(str(root))}
code=0
srun scripts/run {shlex.join(words)} || code=$?
if ((code == {ExitCode.INTERRUPTED:d})); then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""
