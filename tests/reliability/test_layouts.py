"""A run may go on under another layout, on another number of devices, and learns the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt_jax.checkpoint import list_steps
from tests.runs import lines_of, small_run

REPOSITORY = Path(__file__).resolve().parents[2]
FULL = {"checkpoint.every_steps": 0, "eval.every_steps": 0}

ON_TWO_DEVICES = """
import sys
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 2)

from nanogpt_jax import train as loop
from nanogpt_jax.experiment import assemble
from tests.runs import small_run

PMAP = {"parallel.mode": "pmap"}
FSDP = {"parallel.mode": "jit", "parallel.data": 1, "parallel.fsdp": 2}
layouts = []


def watched(*arguments):
    run = assemble(*arguments)
    state = run.layout.create(run.create, run.hyper, run.key)
    shards = [leaf.addressable_shards for leaf in jax.tree.leaves(state.params)]
    split = any(shard[0].data.shape != leaf.shape for shard, leaf in
                zip(shards, jax.tree.leaves(state.params)))
    assert split and all(len(shard) == 2 for shard in shards)
    layouts.append(type(run.layout).__name__)
    return run


loop.assemble = watched
folder, full = Path(sys.argv[1]), {"checkpoint.every_steps": 0, "eval.every_steps": 0}
for first, second in ((PMAP, FSDP), (FSDP, PMAP)):
    workdir = folder / f"{first['parallel.mode']}_first"
    for steps, layout in ((3, first), (6, second)):
        small_run(workdir, {**full, **layout, "train.steps": steps, "schedule.total_steps": 9})
print(*layouts)
"""


def losses_of(workdir: Path) -> dict[int, float]:
    return {line["step"]: line["train/loss"] for line in lines_of(workdir) if "train/loss" in line}


@pytest.mark.slow
def test_pmap_and_mesh_go_on_from_each_other_and_on_one_device(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == ["PmapLayout", "MeshLayout", "MeshLayout", "PmapLayout"]
    changes = {**FULL, "train.steps": 9, "schedule.total_steps": 9}
    small_run(tmp_path / "alone", changes)
    expected = losses_of(tmp_path / "alone")
    assert list(expected) == list(range(1, 10))
    assert len(set(expected.values())) == 9
    for name in ("pmap_first", "jit_first"):
        small_run(tmp_path / name, changes)
        assert losses_of(tmp_path / name) == pytest.approx(expected, rel=1e-5), name
        assert list_steps(tmp_path / name) == [3, 6, 9]
