"""The launcher for SkyPilot, on a `sky` of ours; and its tasks, read by SkyPilot itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nanogpt_jax.cloud import machines, skypilot
from nanogpt_jax.errors import ConfigError, ExitCode, NanogptError
from nanogpt_jax.sweep import Sweep, choice
from nanogpt_jax.sweep.launching import Task, task_of
from nanogpt_jax.sweep.skypilot import POLL_SECONDS, SkyPilot, shipped
from nanogpt_jax.sweep.spec import Trial
from tests import fake_sky
from tests.runs import SEEDS, lines_of

REPOSITORY = Path(__file__).resolve().parents[2]
VERSION = "0.14.1"
OPTIONS = {"storage": "gs://bucket/sweeps", "accelerators": "A100:1"}
SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a `sky` and a `gcloud`, which come first on PATH, with their bucket and calls."""
    root = tmp_path / "cloud"
    (root / "bucket").mkdir(parents=True)
    for name in ("sky", "gcloud"):
        program = root / name
        program.write_text(f"#!{sys.executable}\n{Path(fake_sky.__file__).read_text()}")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{root}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SKY", str(root))
    monkeypatch.setenv("NANOGPT_PYTHON", sys.executable)
    yield root
    for job in root.glob("*.job"):
        fake_sky.end(root, job.stem, signal.SIGKILL)


class Clock:
    """Half a minute passes at every look."""

    now = 0.0

    def __call__(self) -> float:
        self.now += POLL_SECONDS
        return self.now


def task(tmp_path: Path, program: str, number: int = 0) -> Task:
    """A trial that does not train; where it would, it is told."""
    workdir = tmp_path / "rates" / "trials" / f"{number:04d}"
    return Task(number, ["python", "-c", program, f"--workdir={workdir}"], workdir)


def calls(cloud: Path, word: str) -> list[str]:
    lines = (cloud / "calls").read_text().splitlines()
    return [line for line in lines if f" {word} " in line]


def until(ended: Callable[[], int | None]) -> int:
    deadline = time.monotonic() + 600
    while (code := ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return code


def a_sweep(config: str = "configs/tiny.py") -> Sweep:
    return Sweep(config=config, space=choice("seed", 3), fixed={"data.source": "text:a b'c"})


def text_of(tmp_path: Path, config: str = "configs/tiny.py") -> str:
    asked = task_of(a_sweep(config), Trial(0, {"seed": 3}), tmp_path / "rates")
    kept = "/runs/sweeps/rates/trials/0000"
    resources = {"accelerators": "A100:1", "infra": "gcp/us-central1"}
    return skypilot.task(
        "rates-0000",
        shipped(asked),
        kept=kept,
        root=REPOSITORY,
        bucket="gs://bucket",
        resources=resources,
    )


@pytest.mark.parametrize("config", ["configs/tiny.py", str(REPOSITORY / "configs/tiny.py")])
def test_a_task_trains_in_the_bucket_with_the_repository_beside_it(
    tmp_path: Path, config: str
) -> None:
    found = yaml.safe_load(text_of(tmp_path, config))
    assert found["workdir"] == str(REPOSITORY)
    assert found["resources"] == {
        "accelerators": "A100:1",
        "infra": "gcp/us-central1",
        "use_spot": True,
        "job_recovery": {"recover_on_exit_codes": [7, 130, 131]},
    }
    assert found["file_mounts"] == {"/runs": {"source": "gs://bucket", "mode": "MOUNT_CACHED"}}
    here = found["run"].replace("/runs/", f"{tmp_path}/").replace("scripts/run", 'printf "%s\n"')
    told = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=True)
    *words, workdir = told.stdout.splitlines()
    assert words == [
        *("python", "-m", "nanogpt_jax.main", "--config=configs/tiny.py"),
        *("--config.data.source=text:a b'c", "--config.seed=3"),
    ]
    assert workdir.startswith("--workdir=/") and workdir.endswith("/0000")
    for script in (found["run"], found["setup"]):
        subprocess.run(["bash", "-n", "-c", script], check=True)
        assert "exec " not in script and "set -e" not in script, "SkyPilot appends to it"


def test_what_is_kept_is_what_a_run_left_and_the_next_begins_with(tmp_path: Path) -> None:
    text = yaml.safe_load(text_of(tmp_path))["run"].replace("/runs/", f"{tmp_path}/")
    kept = tmp_path / "sweeps/rates/trials/0000"

    def run(program: str) -> int:
        lines = [f'f() {{ cd "${{!##--workdir=}}"; {program}; }}']
        lines += [re.sub("^scripts/run", "f", line) for line in text.splitlines()]
        return subprocess.run(["bash", "-c", "\n".join(lines)]).returncode

    def names() -> list[str]:
        return sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file())

    steps = ["checkpoints/1/a", "checkpoints/2/a"]
    assert run("mkdir -p checkpoints/1; touch checkpoints/1/a; echo 1 >log; return 130") == 130
    assert names() == [steps[0], "log"]
    assert run("mv checkpoints/1 checkpoints/2; echo 2 >>log") == 0
    assert names() == [steps[1], "log"] and (kept / "log").read_text() == "1\n2\n"
    assert run("test -e checkpoints/2/a") == 0 and run("test -e checkpoints/1") == 1


def test_options_go_before_ours() -> None:
    text = skypilot.task(
        "a", ["x"], kept="/runs/a", root=REPOSITORY, bucket="s3://b", resources={"use_spot": 0}
    )
    assert yaml.safe_load(text)["resources"]["use_spot"] == 0


def test_a_config_that_the_machines_do_not_get_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all that the machines get: copy it there"):
        machines.shipped(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("url", "split"),
    [
        ("gs://bucket/a/b", ("gs://bucket", "/runs/a/b")),
        ("s3://bucket/", ("s3://bucket", "/runs")),
        ("", None),
        ("bucket/a", None),
        ("gs://", None),
    ],
)
def test_storage_is_a_folder_in_a_bucket(url: str, split: tuple[str, str] | None) -> None:
    if split:
        assert skypilot.split_storage(url) == split
        return
    with pytest.raises(ConfigError, match="gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, is required"):
        skypilot.split_storage(url)


def test_without_sky_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NanogptError, match=r"found no program sky on PATH, .* uv tool install"):
        SkyPilot(0, OPTIONS)


def test_jobs_are_launched_looked_at_and_cancelled(cloud: Path, tmp_path: Path) -> None:
    launcher = SkyPilot(0, OPTIONS, clock=Clock())
    assert launcher.width == 8
    good = launcher.start(task(tmp_path, "print(1)"))
    bad = launcher.start(task(tmp_path, "raise SystemExit(3)", 1))
    pruned = launcher.start(task(tmp_path, SLEEP, 2))
    taken = launcher.start(task(tmp_path, SLEEP, 3))
    assert pruned.poll() is None and taken.poll() is None
    assert until(good.poll) == ExitCode.DONE and until(bad.poll) == ExitCode.FAILED
    pruned.stop()
    pruned.stop()
    assert calls(cloud, "cancel") == ["sky jobs cancel -y --graceful 3"]
    assert until(pruned.poll) == ExitCode.INTERRUPTED
    subprocess.run(["sky", "jobs", "cancel", "4"], check=True)
    assert until(taken.poll) == ExitCode.FAILED, "by hand, so it is not started again"
    launches = calls(cloud, "launch")
    file = tmp_path / "rates/trials/0000/task.yaml"
    name = yaml.safe_load(file.read_text())["name"]
    assert launches[0] == f"sky jobs launch -y -d -n {name} {file}"
    assert name.startswith("rates-") and name.endswith("-0000") and len(launches) == 4


def test_the_next_controller_finds_what_runs_or_has_succeeded_and_starts_what_has_not(
    cloud: Path, tmp_path: Path
) -> None:
    first = SkyPilot(0, OPTIONS, clock=Clock())
    first.start(task(tmp_path, SLEEP))
    assert until(first.start(task(tmp_path, "print(1)", 1)).poll) == ExitCode.DONE
    first.close()
    second = SkyPilot(0, OPTIONS, clock=Clock())
    job = second.start(task(tmp_path, SLEEP))
    assert len(calls(cloud, "launch")) == 2 and job.poll() is None
    assert until(second.start(task(tmp_path, "print(1)", 1)).poll) == ExitCode.DONE
    assert len(calls(cloud, "launch")) == 2, "it ended while nobody looked, and is done"
    failing = task(tmp_path, "raise SystemExit(1)", 2)
    assert until(second.start(failing).poll) == ExitCode.FAILED
    assert until(second.start(failing).poll) == ExitCode.FAILED
    assert len(calls(cloud, "launch")) == 4
    elsewhere = SkyPilot(0, OPTIONS | {"storage": "gs://other/sweeps"}, clock=Clock())
    elsewhere.start(task(tmp_path, "print(1)"))
    assert len(calls(cloud, "launch")) == 5, "another bucket is another sweep"
    job.stop()


def test_metrics_and_nothing_else_come_from_the_bucket(cloud: Path, tmp_path: Path) -> None:
    run = cloud / "bucket/sweeps/rates/trials/0000"
    (run / "checkpoints/5").mkdir(parents=True)
    (run / "checkpoints/5/params").write_text("large")
    (run / "metrics.jsonl").write_text("first\n")
    launcher = SkyPilot(0, OPTIONS, clock=Clock())
    job = launcher.start(task(tmp_path, SLEEP))
    job.poll()
    here = tmp_path / "rates/trials/0000"
    assert (here / "metrics.jsonl").read_text() == "first\n"
    assert not (here / "checkpoints").exists()
    (run / "metrics.jsonl").write_text("first\nsecond\n")
    job.poll()
    assert (here / "metrics.jsonl").read_text() == "first\nsecond\n"
    job.stop()


def test_the_queue_is_asked_every_half_minute_and_may_be_away(cloud: Path, tmp_path: Path) -> None:
    clock = Clock()
    launcher = SkyPilot(0, OPTIONS, clock=clock)
    job = launcher.start(task(tmp_path, SLEEP))
    assert job.poll() is None
    asked = len(calls(cloud, "queue"))
    clock.now -= POLL_SECONDS + 1
    assert job.poll() is None and len(calls(cloud, "queue")) == asked
    clock.now += 1
    (cloud / "away").touch()
    assert job.poll() is None and len(calls(cloud, "queue")) == asked + 1
    (cloud / "away").unlink()
    job.stop()
    assert until(job.poll) == ExitCode.INTERRUPTED


@pytest.mark.slow
def test_a_sweep_goes_on_though_its_controller_is_killed_and_a_machine_is_taken_away(
    cloud: Path, tmp_path: Path
) -> None:
    pytest.importorskip("optuna", reason="found no optuna; the extra sweep has it")
    (tmp_path / "seeds.py").write_text(SEEDS)
    run = cloud / "bucket/sweeps/seeds/trials/0000"
    command = [
        *(sys.executable, "-m", "nanogpt_jax.sweep", f"--sweep={tmp_path / 'seeds.py'}"),
        *(f"--workdir={tmp_path / 'seeds'}", "--launcher=skypilot"),
        "--skypilot=storage=gs://bucket/sweeps,accelerators=A100:1",
    ]

    def control() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "NANOGPT_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def saved() -> bool | None:
        return any((run / "checkpoints").glob("[0-9]*/metadata.json")) or None

    first = control()
    until(saved)
    first.kill()
    first.communicate()
    subprocess.run(["sky", "preempt", "1"], check=True)
    text, log = control().communicate(timeout=600)
    assert "| 2 |" in text.splitlines()[-1], text + log
    assert len(calls(cloud, "launch")) == 2
    resumed = [line["step"] for line in lines_of(run) if line.get("event") == "resume"]
    assert len(resumed) == 1 and 0 < resumed[0] < 1500


CHECK = """
import json, sys, sky
from sky.client.cli import command
from sky.schemas.api import responses

tasks = [sky.Task.from_yaml(path) for path in sys.argv[1:]]
launch = command.jobs_launch.make_context("launch", ["-y", "-d", "-n", "a", sys.argv[1]]).params
queue = command.jobs_queue.make_context("queue", ["--all", "--output=json", "--refresh"]).params
cancel = command.jobs_cancel.make_context("cancel", ["-y", "--graceful", "3"]).params
print(json.dumps({
    "version": sky.__version__,
    "tasks": [task.to_yaml_config() for task in tasks],
    "launch": [launch["yes"], launch["detach_run"], launch["name"]],
    "queue": [queue["all"], queue["output_format"], queue["refresh"]],
    "cancel": [cancel["yes"], cancel["graceful"], list(cancel["job_ids"])],
    "fields": list(responses.ManagedJobRecord().model_dump(mode="json")),
}))
"""


@pytest.mark.sweep
def test_skypilot_itself_reads_our_tasks_and_commands(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-qq", f"skypilot=={VERSION}"], check=True)
    (tmp_path / "trial.yaml").write_text(text_of(tmp_path))
    node = subprocess.run(
        [
            *("scripts/cloud/skypilot", "--name=gpt2", "--storage=s3://bucket/runs"),
            "--resources=accelerators=tpu-v5litepod-8,infra=gcp,disk_size=200",
            *("--config=configs/tiny.py", "--dry_run"),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"NANOGPT_PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    (tmp_path / "node.yaml").write_text(node.stdout)
    assert node.returncode == 0, node.stderr
    own = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    told = subprocess.run(
        [python, "-c", CHECK, "trial.yaml", "node.yaml"],
        cwd=tmp_path,
        env=own | {"SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        capture_output=True,
        text=True,
    )
    shutil.rmtree(tmp_path / "venv")  # 460 MB
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    assert found["version"] == VERSION
    trial, node_task = found["tasks"]
    assert trial["resources"]["accelerators"] == {"A100": 1} and trial["resources"]["use_spot"]
    recovery = trial["resources"]["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [7, 130, 131]
    assert trial["file_mounts"]["/runs"]["mode"] == "MOUNT_CACHED"
    assert node_task["resources"]["accelerators"] == {"tpu-v5litepod-8": 1}
    assert found["launch"] == [True, True, "a"] and found["queue"] == [True, "json", True]
    assert found["cancel"] == [True, True, [3]]
    assert found["fields"] == fake_sky.FIELDS
