"""scripts/cloud: every text is made, and read by bash, a schema, gcloud or a real Slurm."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from nanogpt_jax.checkpoint import list_steps
from nanogpt_jax.cloud import __main__ as recipes
from nanogpt_jax.cloud import machines
from nanogpt_jax.distributed import Launcher, find_launcher
from nanogpt_jax.errors import ConfigError, NanogptError
from nanogpt_jax.sweep import Sweep, choice, printing
from nanogpt_jax.sweep.launching import task_of
from nanogpt_jax.sweep.spec import Trial
from tests.cloud.schema import problems_of
from tests.runs import lines_of
from tests.several import SMALL
from tests.slurm_node import cluster, until

__all__ = ["cluster"]  # a fixture

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = "configs/tiny.py"
FLAGS = {
    "slurm": ["--runs=/shared/runs", "--nodes=2", "--options=--time=60 --gres=gpu:8"],
    "gke_jobset": ["--image=registry/nanogpt_jax:cuda", "--nodes=2", "--chips=8"],
    "tpu_slice": [
        *("--zone=a-zone", "--accelerator=v4-16", "--runtime=tpu-ubuntu2204-base"),
        "--share=10.0.0.2:/runs",
    ],
    "skypilot": ["--storage=gs://bucket/runs", "--resources=accelerators=A100:1"],
}


def call(
    name: str, *words: str, variables: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """A script of scripts/cloud, from elsewhere, as a user calls it."""
    return subprocess.run(
        [REPOSITORY / "scripts/cloud" / name, *words],
        env={**variables, "NANOGPT_PYTHON": sys.executable},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )


def jobset(capsys: pytest.CaptureFixture[str], **values: Any) -> dict[str, Any]:
    values = {"name": "gpt2", "image": "registry/nanogpt_jax:cuda", "overrides": []} | values
    recipes.gke_jobset(config=TINY, dry_run=True, **values)
    (found,) = yaml.safe_load_all(capsys.readouterr().out)
    return found


def spec_of(found: Mapping[str, Any]) -> dict[str, Any]:
    return found["spec"]["replicatedJobs"][0]["template"]["spec"]


def test_there_is_a_script_for_every_recipe() -> None:
    scripts = sorted((REPOSITORY / "scripts/cloud").iterdir())
    assert [path.name for path in scripts] == sorted(FLAGS)
    assert all(os.access(path, os.X_OK) for path in scripts)


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_a_script_prints_what_it_would_start(name: str, tmp_path: Path) -> None:
    words = ["--name=gpt2", f"--config={TINY}", "--config.train.steps=7", *FLAGS[name]]
    done = call(name, *words, "--dry_run")
    assert done.returncode == 0, done.stderr
    run = "-m nanogpt_jax.main --config=configs/tiny.py --"
    assert run in done.stdout and "--config.train.steps=7" in done.stdout
    assert done.stdout.count("--workdir=") == 1
    if name in ("slurm", "tpu_slice"):
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
    else:
        yaml.safe_load(done.stdout)


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_what_is_missing_is_told_at_once(name: str) -> None:
    done = call(name, "--name=Not_A_Label", "--dry_run")
    assert done.returncode == 2 and done.stdout == ""
    told = done.stderr.splitlines()
    assert "--name='Not_A_Label' must be at most 40 lower-case letters" in told[0]
    assert "error: --config needs a value: config file" in told[1]
    required = {word.partition("=")[0] for word in FLAGS[name]} - {
        *("--nodes", "--options", "--chips")
    }
    assert {line.split()[1] for line in told[2:]} == required


@pytest.mark.parametrize(
    ("config", "overrides", "told"),
    [
        (TINY, [("train.stepz", "1")], "did you mean"),
        ("configs/compare.py", [], "trains several runs, which is for one process; found 2"),
    ],
)
def test_a_command_that_would_fail_there_is_told_here(
    config: str, overrides: list[tuple[str, str]], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        recipes.command_of(config, overrides, "/runs/a", 2)


def test_names_are_those_that_all_take() -> None:
    assert machines.label("2026-11_Rates & more") == "run-2026-11-rates-more"
    assert machines.is_label("gpt2-124m") and not machines.is_label("a" * 41)


def test_a_program_that_is_not_there_or_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NanogptError, match="false ended with exit code 1"):
        recipes.start(["false"], "", "a", dry_run=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NanogptError, match=r"found no program sky, .* with --dry_run"):
        recipes.start(["sky", "jobs", "launch"], "", "a", dry_run=False)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"nodes": 4, "chips": 8, "accelerator": "nvidia-h100-80gb", "spot": True},
        {"nodes": 4, "chips": 4, "accelerator": "tpu-v6e-slice", "topology": "4x4"},
    ],
)
def test_a_jobset_keeps_to_the_schema(
    values: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    device = "tpu" if "topology" in values else "gpu"
    found = jobset(capsys, device=device, **values)
    assert problems_of(found) == []
    spec = spec_of(found)
    assert spec["completions"] == spec["parallelism"] == values.get("nodes", 1)
    # One that fails ends the job, and the set starts all again.
    assert spec["backoffLimit"] == 0 and found["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    resource = "google.com/tpu" if device == "tpu" else "nvidia.com/gpu"
    container = spec["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {resource: values.get("chips", 1)}
    subprocess.run(["bash", "-n", "-c", container["args"][-1]], check=True)


def test_the_schema_finds_slips(capsys: pytest.CaptureFixture[str]) -> None:
    found = jobset(capsys)
    found["spec"]["failurePolicy"]["maxRestart"] = 1
    found["metadata"]["name"] = "Not_A_Label"
    del spec_of(found)["template"]["spec"]["containers"][0]["image"]
    spec_of(found)["completions"] = "2"
    assert len(problems_of(found)) == 4
    found = jobset(capsys, name="a" * 40)
    assert problems_of(found) == []
    spec_of(found)["template"]["spec"]["volumes"].pop(0)
    found["metadata"]["name"] = "a" * 60
    told = problems_of(found)
    assert told[0] == "no volume runs" and "at most 63" in told[1] and len(told) == 2


def test_the_jobset_of_a_sweep_keeps_to_the_schema_too(tmp_path: Path) -> None:
    sweep = Sweep(config=TINY, space=choice("seed", 0, 1))
    points = enumerate(sweep.space.points())
    tasks = [task_of(sweep, Trial(n, point), tmp_path / "My_rates") for n, point in points]
    printing.write(tasks, "My_rates", tmp_path / "My_rates", "an/image:tag")
    found = yaml.safe_load((tmp_path / "My_rates/jobset.yaml").read_text())
    assert problems_of(found) == [] and found["metadata"]["name"] == "my-rates"


def test_pods_with_gpus_are_told_who_is_the_first_and_who_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = spec_of(jobset(capsys, nodes=2))["template"]["spec"]["containers"][0]["args"][-1]
    for name, text in {"python": 'printf "%s\n" "$@"', "getent": 'test "$2" = a.b || true'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    told = subprocess.run(
        ["/bin/bash", "-c", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_COMPLETION_INDEX": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines() == [
        *("-m", "nanogpt_jax.main", f"--config={TINY}", "--workdir=/runs/gpt2"),
        *("--coordinator=gpt2-workers-0-0.gpt2:1234", "--num_processes=2", "--process_id=1"),
    ]


def test_pods_with_tpus_find_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"device": "tpu", "nodes": 4, "accelerator": "tpu-v6e-slice", "topology": "4x4"}
    found = jobset(capsys, **values)
    pod = spec_of(found)["template"]["spec"]
    assert "--coordinator" not in pod["containers"][0]["args"][-1]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    (annotation,) = found["metadata"]["annotations"].items()
    assert annotation == (
        "alpha.jobset.sigs.k8s.io/exclusive-topology",
        "cloud.google.com/gke-nodepool",
    )
    # What GKE sets in them.
    assert find_launcher({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}) == Launcher("GKE", 0, -1)
    with pytest.raises(ConfigError, match="both are required, as the node pool has them"):
        jobset(capsys, device="tpu")


GCLOUD = """#!/bin/bash
printf '%s\\n' "$*" >>"$ROOT/calls"
case $* in
  *describe*--format*) cat "$ROOT/state"; echo ACTIVE >"$ROOT/state" ;;
  *describe*) test -e "$ROOT/asked" ;;
  *create*) touch "$ROOT/asked" ;;
  *scp*) cp "$5" "$ROOT/sent.tgz" ;;
  *ssh*) printf '%s' "${!##--command=}" >"$ROOT/command"; exit 130 ;;
esac
"""


def slice_in(root: Path, state: str) -> subprocess.CompletedProcess[str]:
    for name, text in {"gcloud": GCLOUD, "sleep": "#!/bin/bash\n"}.items():
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    (root / "state").write_text(state)
    variables = os.environ | {"PATH": f"{root}:{os.environ['PATH']}", "ROOT": str(root)}
    words = ["--name=gpt2", f"--config={TINY}", *FLAGS["tpu_slice"]]
    return call("tpu_slice", *words, variables=variables)


def test_a_slice_is_asked_for_once_waited_for_and_trained_on(tmp_path: Path) -> None:
    done = slice_in(tmp_path, "WAITING_FOR_RESOURCES\n")
    where, common = "gpt2 --zone=a-zone", "compute tpus"
    asked = f"{common} queued-resources describe {where}"
    create = "--node-id=gpt2 --accelerator-type=v4-16 --runtime-version=tpu-ubuntu2204-base"
    calls = (tmp_path / "calls").read_text()
    lines = calls.splitlines()
    assert lines[:4] == [
        asked,
        f"{common} queued-resources create {where} {create}",
        *2 * [f"{asked} --format=value(state.state)"],
    ]
    assert lines[4].startswith(f"{common} tpu-vm scp /")
    assert lines[4].endswith("/nanogpt_jax.tgz gpt2:nanogpt_jax.tgz --zone=a-zone --worker=all")
    assert lines[5].startswith(f"{common} tpu-vm ssh {where} --worker=all --command=set -euo")
    with tarfile.open(tmp_path / "sent.tgz") as sent:
        assert {"scripts/run", "nanogpt_jax/main.py", TINY} <= {*sent.getnames()}
    command = (tmp_path / "command").read_text()
    subprocess.run(["bash", "-n", "-c", command], check=True)
    assert "sudo mount -t nfs 10.0.0.2:/runs /runs\n" in command
    run = shlex.split(command.splitlines()[-1])
    assert run[:4] == ["scripts/run", "python", "-m", "nanogpt_jax.main"]
    assert run[-1] == "--workdir=/runs/gpt2"
    assert done.returncode == 1 and "bash ended with exit code 130" in done.stderr
    assert f"costs until it is deleted: gcloud {common} queued-resources delete" in done.stdout
    slice_in(tmp_path, "ACTIVE\n")
    assert (tmp_path / "calls").read_text().count(" create ") == 1, "it was there"


def test_a_slice_that_was_taken_away_is_told_with_the_remedy(tmp_path: Path) -> None:
    done = slice_in(tmp_path, "SUSPENDED\n")
    assert done.returncode == 1
    assert "found the slice gpt2 SUSPENDED, required ACTIVE; delete it" in done.stderr
    assert "ssh" not in (tmp_path / "calls").read_text()


@pytest.mark.sweep
def test_gcloud_knows_every_flag_that_it_is_given(tmp_path: Path) -> None:
    slice_in(tmp_path, "ACTIVE\n")
    text = recipes.tpu.script(
        "gpt2",
        ["x"],
        root=REPOSITORY,
        zone="a",
        accelerator="v4-16",
        runtime="r",
        share="s:/r",
        spot=True,
    )
    lines = [*(tmp_path / "calls").read_text().splitlines(), *text.splitlines()]
    used: dict[str, set[str]] = {}
    for line in lines:
        _, found, rest = line.partition("compute tpus ")
        if found:
            flags = set(re.findall(r"(?<= )--[a-z-]+", rest))
            used.setdefault(" ".join(rest.split()[:2]), set()).update(flags)
    assert len(used) == 5
    for command, flags in used.items():
        told = subprocess.run(
            ["gcloud", "compute", "tpus", *command.split(), "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        ).stdout
        plain = subprocess.run(["col", "-b"], input=told, capture_output=True, text=True).stdout
        assert "SYNOPSIS" in plain
        missing = {flag for flag in flags if flag not in plain} - {"--format"}  # of all commands
        assert missing == set(), command


@pytest.mark.slow
def test_a_run_of_slurm_that_is_told_to_end_queues_again_and_goes_on(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    changes = {**SMALL, "train.steps": 100_000, "eval.every_steps": 0, "checkpoint.every_steps": 20}
    words = [
        *("--name=two", f"--config={TINY}", f"--runs={tmp_path / 'runs'}", "--processes=2"),
        *("--options=--partition=cpu --cpus-per-task=1",),
        *(f"--config.{name}={value}" for name, value in changes.items()),
    ]
    own = cluster | {"JAX_PLATFORMS": "cpu", "NANOGPT_CACHE": str(tmp_path / "cache")}
    own |= {"NANOGPT_PYTHON": sys.executable}
    run = tmp_path / "runs/two"

    def ask(*command: str) -> str:
        return subprocess.run(command, env=own, capture_output=True, text=True).stdout.strip()

    def log() -> str:
        return "".join(path.read_text() for path in (tmp_path / "runs").glob("slurm-*.log"))

    (tmp_path / "run.sbatch").write_text(call("slurm", *words, "--dry_run").stdout)
    tested = subprocess.run(
        ["sbatch", "--test-only", tmp_path / "run.sbatch"], env=own, capture_output=True, text=True
    )
    assert tested.returncode == 0 and "to start at" in tested.stderr, tested.stderr
    done = call("slurm", *words, variables=own)
    assert done.returncode == 0, done.stderr
    number = done.stdout.split()[-1]
    until(lambda: list_steps(run)[-1:] >= [20])
    ask("scancel", "--signal=TERM", number)
    until(lambda: ask("squeue", "--noheader", "--format=%T", f"--jobs={number}") == "PENDING")
    saved = list_steps(run)[-1]
    assert log().count(f"interrupted and saved at step {saved}") == 2

    def released() -> bool:
        shown = ask("squeue", "--noheader", "--format=%T %r", f"--jobs={number}")
        if shown == "PENDING BeginTime":
            # Slurm waits two minutes, in which the old script ends: its end would be taken for that
            # of a job that is started at once.
            time.sleep(10)
            ask("scontrol", "update", f"JobId={number}", "StartTime=now")
            time.sleep(5)
        return shown.startswith("RUNNING")

    until(released, 240)
    until(lambda: f"resuming from step {saved} of" in log())
    until(lambda: list_steps(run)[-1] > saved)
    ask("scancel", number)
    until(lambda: ask("squeue", "--noheader") == "")
    time.sleep(3)
    assert ask("squeue", "--noheader") == "", "who is cancelled does not come back"
    assert "2 x cpu" in log()
    assert [line["step"] for line in lines_of(run) if line.get("event") == "resume"] == [saved]
