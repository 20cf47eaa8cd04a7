"""Train one config many ways, and say which way is best.

    python -m nanogpt_jax.sweep --sweep=FILE.py [--workdir=DIR] [--parallel=N] [--database=URL]
        [--launcher=local|lanes|slurm|skypilot|print] [--slurm=OPTIONS] [--skypilot=OPTIONS]

FILE.py has `get_sweep()`: docs/sweeps.md. The same command again goes on where the sweep stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from absl import logging

from nanogpt_jax import cli
from nanogpt_jax.errors import ConfigError, MissingExtra
from nanogpt_jax.experiment import Plan
from nanogpt_jax.registry import non_negative
from nanogpt_jax.sweep import printing
from nanogpt_jax.sweep.launching import Launcher, task_of, workdir_of
from nanogpt_jax.sweep.spec import Sweep, Trial, load_settings, load_sweep, plan_of, require_sound

if TYPE_CHECKING:
    from nanogpt_jax.sweep.study import Study


def main(
    *,
    sweep: Annotated[str, "file with get_sweep(); see docs/sweeps.md"],
    workdir: Annotated[str, "folder of the sweep; default checkpoints/<its name>"] = "",
    launcher: Annotated[
        Literal["local", "lanes", "slurm", "skypilot", "print"],
        "processes of this machine, lanes of one program, jobs of Slurm or of SkyPilot, or only "
        "the commands",
    ] = "local",
    parallel: Annotated[
        int, "trials at once; 0 = one a GPU or one, of Slurm 64, of SkyPilot 8", non_negative
    ] = 0,
    slurm: Annotated[str, "options of sbatch: partition=gpu,gpus_per_node=1,timeout_min=60"] = "",
    skypilot: Annotated[
        str, "storage=gs://BUCKET/FOLDER and resources: accelerators=A100:1,use_spot=true"
    ] = "",
    database: Annotated[str, "URL of a database that several controllers share"] = "",
    image: Annotated[str, "container image in the text of print"] = "nanogpt-jax:cuda",
) -> None:
    """Trains every trial, then prints the table of what they came to."""
    logging.set_verbosity(logging.INFO)
    asked = load_sweep(Path(sweep).expanduser())
    folder = Path(workdir or f"checkpoints/{name_of(Path(sweep))}").expanduser().resolve()
    require_sound(asked)
    if launcher == "print":
        if asked.fresh_seeds:
            raise ConfigError(
                "--launcher=print with fresh_seeds: what the second round trains is known when the "
                "first has ended; leave tuned and fresh_seeds out, or use another launcher"
            )
        points = enumerate(asked.space.points())
        tasks = [task_of(asked, Trial(n, point), folder, python="python") for n, point in points]
        print(printing.write(tasks, folder.name, folder, image), end="")
        return
    try:
        from nanogpt_jax.sweep import controller, local, outcome
        from nanogpt_jax.sweep import skypilot as skypilots
        from nanogpt_jax.sweep import slurm as slurms
        from nanogpt_jax.sweep.study import Study
    except ModuleNotFoundError as error:
        raise MissingExtra("a sweep", "sweep") from error
    study = Study(asked, folder, database)
    if launcher == "lanes":
        _train_lanes(asked, study, folder)
    else:
        runs: Launcher
        if launcher == "slurm":
            runs = slurms.Slurm(parallel, cli.parse_pairs("--slurm", slurm))
        elif launcher == "skypilot":
            runs = skypilots.SkyPilot(parallel, cli.parse_pairs("--skypilot", skypilot))
        else:
            runs = local.Local(parallel)
        controller.Controller(asked, folder, study, runs).run()
    print(outcome.report(asked, study.ended(), folder))


def name_of(file: Path) -> str:
    """The name of a sweep: that of its file, or of the folder where this is but sweep.py."""
    return file.resolve().parent.name if file.stem == "sweep" else file.stem


def _train_lanes(sweep: Sweep, study: Study, folder: Path) -> None:
    """Trains all trials that are left as lanes of one program, round by round."""
    from nanogpt_jax.sweep.controller import objectives
    from nanogpt_jax.sweep.lanes import train_lanes

    settings = load_settings(sweep)
    while trials := _all_next(study):
        plans: dict[Path, Plan] = {}
        for trial in trials:
            plans[workdir_of(folder, trial.number)] = plan_of(sweep, settings, trial.point)
        changes = {workdir_of(folder, each.number): sweep.changes(each.point) for each in trials}
        failed = train_lanes(plans, changes)
        for trial in trials:
            values = objectives(folder, sweep, trial.number)
            ended = values and failed[workdir_of(folder, trial.number)] is None
            study.tell(trial.number, values[max(values)] if ended else None)


def _all_next(study: Study) -> list[Trial]:
    """The trials under way, and all that may begin beside them."""
    trials = study.under_way()
    while (trial := study.next()) is not None:
        trials.append(trial)
    return trials


if __name__ == "__main__":
    cli.run(main, __doc__)
