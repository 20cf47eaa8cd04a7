"""The command, with real processes: a sweep is done, killed, gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanogpt_jax.checkpoint import list_steps
from nanogpt_jax.errors import ExitCode

pytest.importorskip("optuna", reason="found no optuna; the extra sweep has it")

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = """
from nanogpt_jax.sweep import Sweep, choice, product

def get_sweep():
    return Sweep(
        config="configs/tiny.py",
        space=product(choice("optimizer.learning_rate", 0.001, 0.01), choice("seed", 0, 1)),
        fixed={
            "train.steps": %d, "eval.every_steps": 10, "checkpoint.every_steps": 10,
            "checkpoint.milestones": 0, "data.stories": 100, "eval.samples": 0, %s
        },
    )
"""


def start(folder: Path, *words: str, steps: int = 20, more: str = "") -> subprocess.Popen[str]:
    file = folder / "rates.py"
    file.write_text(FILE % (steps, more))
    command = [sys.executable, "-m", "nanogpt_jax.sweep", f"--sweep={file}"]
    return subprocess.Popen(
        [*command, f"--workdir={folder / 'sweep'}", *words],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "NANOGPT_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_saved(process: subprocess.Popen[str], folder: Path) -> None:
    """Returns once the first trial has saved a step."""
    deadline = time.monotonic() + 600
    while not list_steps(folder / "sweep/trials/0000"):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def values(folder: Path) -> dict[str, str]:
    lines = (folder / "sweep" / "trials.csv").read_text().splitlines()[1:]
    return {line.split(",")[0]: line.split(",")[2] for line in lines}


@pytest.mark.slow
def test_a_controller_that_is_killed_is_gone_on_with_and_lanes_agree(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    first = start(broken, "--launcher=local", "--parallel=2", steps=60)
    wait_until_saved(first, broken)
    first.kill()
    first.communicate()
    second = start(broken, "--launcher=local", "--parallel=2", steps=60)
    text, log = second.communicate(timeout=300)
    assert second.returncode == ExitCode.DONE, log
    assert "going on with 2 trials that were under way" in log
    assert len(text.splitlines()) == 4
    lanes = tmp_path / "lanes"
    lanes.mkdir()
    third = start(lanes, "--launcher=lanes", steps=60)
    _, log = third.communicate(timeout=300)
    assert third.returncode == ExitCode.DONE, log
    found, others = values(broken), values(lanes)
    assert found.keys() == others.keys() == {"0", "1", "2", "3"}
    for number, value in found.items():
        assert float(value) == pytest.approx(float(others[number]), rel=1e-4)
    assert len(set(found.values())) == 4


@pytest.mark.slow
def test_a_signal_saves_the_trials_under_way(tmp_path: Path) -> None:
    process = start(tmp_path, steps=100_000)
    wait_until_saved(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, log
    assert "the same command goes on" in log
    assert list_steps(tmp_path / "sweep/trials/0000")[-1] > 10


@pytest.mark.slow
def test_all_problems_of_all_points_are_told_before_anything_starts(tmp_path: Path) -> None:
    process = start(tmp_path, more='"model.n_heads": 3, "train.batch_size": 0')
    _, log = process.communicate(timeout=60)
    assert process.returncode == ExitCode.USAGE
    assert "model.n_heads" in log and "train.batch_size" in log
    assert not (tmp_path / "sweep").exists()
