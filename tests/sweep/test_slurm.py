"""The launcher for Slurm, on a real one: a node of this machine, thrown away afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt_jax.checkpoint import list_steps
from nanogpt_jax.errors import ExitCode
from tests.runs import SEEDS, lines_of, steps_of
from tests.slurm_node import cluster, until

pytest.importorskip("submitit", reason="found no submitit; the extra sweep has it")

__all__ = ["cluster"]  # a fixture

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_preempted_trial_is_queued_again_and_goes_on_though_its_controller_was_killed(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "seeds.py").write_text(SEEDS)
    run = tmp_path / "sweep/trials/0000"

    def control() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "nanogpt_jax.sweep", f"--sweep={tmp_path / 'seeds.py'}"),
                *(f"--workdir={tmp_path / 'sweep'}", "--launcher=slurm", "--slurm=partition=cpu"),
            ],
            cwd=REPOSITORY,
            env=cluster | {"JAX_PLATFORMS": "cpu", "NANOGPT_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(*words: str) -> str:
        return subprocess.run(words, env=cluster, capture_output=True, text=True).stdout

    first = control()
    until(lambda: list_steps(run))
    first.kill()
    first.communicate()
    number = (run / "slurm/job").read_text()
    ask("scontrol", "requeue", number)
    until(lambda: ask("squeue", "--noheader", "--format=%T", f"--jobs={number}") == "PENDING\n")
    saved = list_steps(run)[-1]
    ask("scontrol", "update", f"JobId={number}", "StartTime=now")
    second = control()
    text, log = second.communicate(timeout=600)
    assert second.returncode == ExitCode.DONE, log
    assert (run / "slurm/job").read_text() == number, "the job was found, not made again"
    assert text.splitlines()[-1].split("|")[4].strip() == "2"
    resumed = [line["step"] for line in lines_of(run) if line.get("event") == "resume"]
    assert resumed == [saved] and 0 < saved < 1500
    assert list_steps(run)[-1] == 1500 and steps_of(run, "val/loss")[-1] == 1500
    # A trial has ended when its result is there; Slurm then has its job yet to end.
    until(lambda: ask("squeue", "--noheader") == "")
