"""One run on machines of a cloud or a cluster, by one command.

    scripts/cloud/slurm      --name=gpt2 --runs=/shared/runs --nodes=2 --config=FILE
    scripts/cloud/gke_jobset --name=gpt2 --image=IMAGE --nodes=2 --chips=8 --config=FILE
    scripts/cloud/tpu_slice  --name=gpt2 --zone=ZONE --accelerator=v5litepod-16 --runtime=VERSION
        --share=HOST:/FOLDER --config=FILE
    scripts/cloud/skypilot   --name=gpt2 --storage=gs://BUCKET/runs --resources=accelerators=A100:1
        --config=FILE

--config.SECTION.FIELD=VALUE changes the config, as for nanogpt_jax.main. With --dry_run the text is
printed and nothing is started. The same command again goes on where the run stands.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from nanogpt_jax import cli, experiment
from nanogpt_jax.cloud import jobset, machines, tpu
from nanogpt_jax.cloud import skypilot as skypilots
from nanogpt_jax.cloud import slurm as slurms
from nanogpt_jax.errors import ConfigError, NanogptError
from nanogpt_jax.registry import Rule, positive

label = Rule(
    "be at most 40 lower-case letters, digits and single hyphens, a letter first", machines.is_label
)
Name = Annotated[str, "of the job, and of its run directory", label]
Config = Annotated[str, "config file, PATH[:ARGUMENT]; see configs/"]
DryRun = Annotated[bool, "print the text, start nothing"]


def slurm(
    *,
    name: Name,
    config: Config,
    runs: Annotated[Path, "folder of run directories, which every node sees"],
    nodes: Annotated[int, "machines", positive] = 1,
    processes: Annotated[int, "processes of the run on each node", positive] = 1,
    options: Annotated[str, "more of sbatch, by spaces: '--time=60 --gres=gpu:8'"] = "",
    dry_run: DryRun = False,
    overrides: cli.Overrides,
) -> None:
    """One run over nodes of Slurm; out of time or preempted, it saves and queues again."""
    words = command_of(config, overrides, f"{runs}/{name}", nodes * processes)
    text = slurms.one_run(
        name,
        words,
        root=machines.checkout(),
        folder=runs,
        nodes=nodes,
        processes=processes,
        options=options.split(),
    )
    if not dry_run:
        runs.mkdir(parents=True, exist_ok=True)  # Slurm opens its log there before anything runs
    start(["sbatch"], text, "run.sbatch", dry_run)


def gke_jobset(
    *,
    name: Name,
    config: Config,
    image: Annotated[str, "of the Dockerfile, in a registry that the cluster reads"],
    nodes: Annotated[int, "pods, one on each node; of TPUs as many as the slice has", positive] = 1,
    device: Annotated[Literal["gpu", "tpu"], "of the nodes"] = "gpu",
    chips: Annotated[int, "GPUs or TPU chips of a node", positive] = 1,
    accelerator: Annotated[str, "label of the nodes: nvidia-l4, tpu-v6e-slice"] = "",
    topology: Annotated[str, "of a TPU slice: 4x4"] = "",
    claim: Annotated[str, "PersistentVolumeClaim that many pods may mount"] = "runs",
    spot: Annotated[bool, "nodes that may be taken away"] = False,
    dry_run: DryRun = False,
    overrides: cli.Overrides,
) -> None:
    """One run over pods of a JobSet; where one fails, all start again and go on."""
    if device == "tpu" and not (accelerator and topology):
        raise ConfigError(
            f"--device=tpu with --accelerator={accelerator!r} --topology={topology!r}: "
            "both are required, as the node pool has them"
        )
    words = command_of(config, overrides, f"{machines.RUNS}/{name}", nodes)
    kind = "tpu-accelerator" if device == "tpu" else "accelerator"
    labels = {kind: accelerator, "tpu-topology": topology, "spot": "true" if spot else ""}
    pods = jobset.one_run(
        name,
        words,
        nodes=nodes,
        limits={"google.com/tpu" if device == "tpu" else "nvidia.com/gpu": chips},
        selector={f"cloud.google.com/gke-{key}": value for key, value in labels.items() if value},
    )
    text = jobset.render(name, "workers", pods, image=image, mount=machines.RUNS, claim=claim)
    start(["kubectl", "apply", "-f"], text, "jobset.yaml", dry_run)


def tpu_slice(
    *,
    name: Name,
    config: Config,
    zone: Annotated[str, "of Google Cloud"],
    accelerator: Annotated[str, "type of the slice: v4-16, v5litepod-16"],
    runtime: Annotated[str, "software version of the slice: v2-alpha-tpuv5-lite"],
    share: Annotated[str, "NFS folder of run directories, HOST:/FOLDER, which every host reaches"],
    spot: Annotated[bool, "a slice that may be taken away"] = False,
    dry_run: DryRun = False,
    overrides: cli.Overrides,
) -> None:
    """One run on all hosts of a Cloud TPU slice, with the code as it is committed."""
    text = tpu.script(
        name,
        command_of(config, overrides, f"{machines.RUNS}/{name}", 2),
        root=machines.checkout(),
        zone=zone,
        accelerator=accelerator,
        runtime=runtime,
        share=share,
        spot=spot,
    )
    start(["bash"], text, "slice.sh", dry_run, needs=("gcloud", "git"))


def skypilot(
    *,
    name: Name,
    config: Config,
    storage: Annotated[str, "folder of run directories in a bucket: gs://BUCKET/FOLDER"],
    resources: Annotated[str, "of a SkyPilot task: accelerators=A100:1,use_spot=true"],
    dry_run: DryRun = False,
    overrides: cli.Overrides,
) -> None:
    """One run as a managed job of SkyPilot; taken away, its machine is replaced and it goes on."""
    bucket, folder = skypilots.split_storage(storage)
    text = skypilots.task(
        name,
        command_of(config, overrides, "", 1),
        kept=f"{folder}/{name}",
        root=machines.checkout(),
        bucket=bucket,
        resources=cli.parse_pairs("--resources", resources),
    )
    start(["sky", "jobs", "launch", "-y", "-d"], text, "task.yaml", dry_run)


def command_of(config: str, overrides: cli.Overrides, workdir: str, processes: int) -> list[str]:
    """The command that trains, in a copy of the repository; what is wrong with it is told now.

    Without a `workdir` whoever runs it adds one.
    """
    several = experiment.load_variants(config) or experiment.load_phases(config)
    if several and processes > 1:
        raise ConfigError(
            f"--config={config} trains several runs, which is for one process; found {processes}"
        )
    if not several:
        experiment.resolve(experiment.load_config(config), overrides)
    changes = [f"--config.{name}={text}" for name, text in overrides]
    words = ["python", "-m", "nanogpt_jax.main", f"--config={machines.shipped(config)}"]
    return [*words, *([f"--workdir={workdir}"] if workdir else []), *changes]


def start(
    program: Sequence[str], text: str, file: str, dry_run: bool, needs: Sequence[str] = ()
) -> None:
    """Prints a text, or gives it to a program as a file."""
    if dry_run:
        print(text, end="")
        return
    for each in needs or program[:1]:
        if shutil.which(each) is None:
            raise NanogptError(
                f"found no program {each}, required to start this: install it, or see the text "
                "with --dry_run"
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_text(text)
        done = subprocess.run([*program, str(path)], check=False)
    if done.returncode:
        raise NanogptError(f"{program[0]} ended with exit code {done.returncode}: see above")


if __name__ == "__main__":
    commands = (slurm, gke_jobset, tpu_slice, skypilot)
    cli.run({each.__name__: each for each in commands}, __doc__)
