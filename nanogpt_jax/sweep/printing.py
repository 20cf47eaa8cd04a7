"""What would be run, as text: commands one a line, a Slurm array, and a Kubernetes JobSet.

Nothing is started. A JobSet (jobset.sigs.k8s.io, v1alpha2) has one replicated job, an index of
which is a trial; a Slurm array has a task for each. Both read the commands from `commands.txt`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from nanogpt_jax.cloud import jobset, machines, slurm
from nanogpt_jax.sweep.launching import Task

COMMANDS = "commands.txt"


def commands_of(tasks: Sequence[Task]) -> str:
    """A line for each task, as a shell reads it."""
    return "".join(f"{shlex.join(task.words)}\n" for task in tasks)


def slurm_array(tasks: Sequence[Task], name: str, folder: Path) -> str:
    """An sbatch script of an array with a task for each."""
    each = [f"--array=0-{len(tasks) - 1}"]
    return f"""{slurm.head(name, f"{folder}/slurm-%A_%a.log", each)}\
command=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(folder / COMMANDS))})
eval "exec srun $command"
"""


def trials(tasks: Sequence[Task], name: str, folder: Path, image: str) -> str:
    """A JobSet whose volume `runs` holds the folder of the sweep."""
    where = shlex.quote(str(folder / COMMANDS))
    script = f'eval "exec $(sed -n "$((JOB_COMPLETION_INDEX + 1))p" {where})"'
    pods = jobset.Pods(len(tasks), script, together=False)
    mount = str(folder.parent)
    return jobset.render(machines.label(name), "trials", pods, image=image, mount=mount)


def write(tasks: Sequence[Task], name: str, folder: Path, image: str) -> str:
    """Writes the three texts into `folder`; returns the commands."""
    folder.mkdir(parents=True, exist_ok=True)
    commands = commands_of(tasks)
    (folder / COMMANDS).write_text(commands)
    (folder / "array.sbatch").write_text(slurm_array(tasks, name, folder))
    (folder / "jobset.yaml").write_text(trials(tasks, name, folder, image))
    return commands
