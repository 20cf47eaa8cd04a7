"""A real Slurm of one node, this machine, thrown away afterwards."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "shared" / "tools" / "slurm_single_node.sh"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands reach a node of its own."""
    if not TOOL.is_file():
        pytest.skip(f"found no {TOOL.name}, which starts a Slurm")
    own = os.environ | {"SLURM_ROOT": str(tmp_path / "slurm")}
    # Its ports are fixed, so whoever else tests here waits.
    with open(Path(tempfile.gettempdir()) / "nanogpt-slurm-node.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield from started(own)


def started(own: dict[str, str]) -> Iterator[dict[str, str]]:
    subprocess.run([TOOL, "start"], env=own, check=True)  # what it says is shown if it fails
    try:
        said = subprocess.run([TOOL, "env"], env=own, check=True, capture_output=True, text=True)
        shown = subprocess.run(
            ["bash", "-c", f"{said.stdout}\nenv -0"], env=own, check=True, capture_output=True
        )
        pairs = (part.partition("=") for part in shown.stdout.decode().split("\0") if part)
        yield {name: value for name, _, value in pairs}
    finally:
        files = (Path(own["SLURM_ROOT"]) / "run").glob("*.pid")
        daemons = [pid for file in files for pid in file.read_text().split()]
        subprocess.run([TOOL, "stop"], env=own, check=False, capture_output=True)
        until(lambda: not any(map(is_running, daemons)))  # they end in their own time


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(true: Callable[[], object], seconds: float = 600) -> None:
    """Waits for what Slurm does in its own time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)
