"""`parallel.exact=true`: the number of devices changes no bit, and what could is said.

Each run is processes of its own, because the number of devices is fixed when JAX starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from nanogpt_jax import runtime
from nanogpt_jax.checkpoint import digest_step, list_steps, read_sidecar
from nanogpt_jax.checkpoint.environment import Environment
from nanogpt_jax.config import Parallel
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.exact import describe_changes, make_exact_layout
from nanogpt_jax.experiment import default_config, resolve
from nanogpt_jax.parallel import problems
from tests.reliability.conftest import Proven
from tests.runs import lines_of

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 6
TINY = {
    "model.n_layer": 1,
    "model.n_head": 2,
    "model.d_model": 16,
    "model.dropout": 0.2,
    "train.steps": STEPS,
    "train.accumulate_steps": 2,
    "schedule.total_steps": STEPS,
    "checkpoint.every_steps": 3,
}
# Wide enough for XLA to divide its products among threads.
WIDE = {
    **TINY,
    "model.n_head": 4,
    "model.n_kv_head": 2,
    "model.d_model": 128,
    "model.max_seq_len": 64,
    "train.seq_len": 64,
    "train.batch_size": 16,
    "train.accumulate_steps": 8,
}
# Changes, and whether the corpus is a stream.
RECIPES: dict[str, tuple[dict[str, Any], bool]] = {
    "muon": (
        {
            "optimizer.name": "muon",
            "schedule.name": "warmup_stable_decay",
            "log.layers_every_steps": 2,
        },
        False,
    ),
    "a stream": (
        {
            "data.format": "packed",
            "tokenizer.kind": "bpe",
            "tokenizer.vocab_size": 300,
            "optimizer.clip_logits_norm": 0.1,
        },
        True,
    ),
}

AS_USED: dict[str, Any] = {"XLA_FLAGS": ""}  # the tests' own switches optimisations off

RUN = """
import json, sys
from pathlib import Path

import jax
from absl import logging

folder, devices, changes, streamed = json.loads(sys.argv[1])
jax.config.update("jax_num_cpu_devices", devices)
logging.set_verbosity(logging.INFO)

from nanogpt_jax.experiment import assembly
from nanogpt_jax.train import train
from tests.runs import small_plan

if streamed:
    from tests.test_streamed_run import streamed
    assembly.open_corpus = lambda plan, bad: streamed()
workdir = Path(folder)
train(small_plan(workdir.parent, changes, model="gpt"), workdir)
"""

LOAD = """
import json, sys
from pathlib import Path

import jax

folder, step, changes = json.loads(sys.argv[1])
jax.config.update("jax_num_cpu_devices", 2)

from nanogpt_jax.checkpoint import digest_params
from nanogpt_jax.experiment import assemble
from nanogpt_jax.start import restore
from tests.runs import small_plan

workdir = Path(folder)
run = assemble(small_plan(workdir.parent, changes, model="gpt"), workdir, ())
params = restore(run, workdir, step).params
assert not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(params))
print(digest_params(params))
"""


def run_python(
    script: str, given: Sequence[Any], variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """A script that has ended well."""
    ended = subprocess.run(
        [sys.executable, "-c", script, json.dumps(given)],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def train(
    workdir: Path,
    devices: int,
    changes: Mapping[str, Any],
    *,
    streamed: bool = False,
    **variables: str,
) -> Path:
    """`workdir`, in which a process has trained on so many simulated devices."""
    changes = {"parallel.exact": True, **changes}
    cache = {"NANOGPT_CACHE": str(workdir.parent)}
    run_python(RUN, [str(workdir), devices, changes, streamed], cache | variables)
    return workdir


def devices_of(workdir: Path) -> list[int]:
    """Those that each checkpoint was made with, oldest first."""
    return [read_sidecar(workdir, step).environment.devices for step in list_steps(workdir)]


def require_same_bits(workdirs: Sequence[Path]) -> None:
    """Every loss, norm and measure of every step, and parameters and moments of every save."""
    first, *others = workdirs
    for other in others:
        assert measures_of(other) == measures_of(first), other
        for step in list_steps(first):
            assert digest_step(other, step) == digest_step(first, step), (other, step)
    digests = [digest_step(first, step)["total"] for step in list_steps(first)]
    assert len(set(digests)) == len(digests) > 1, "it has learned"


def log_of(workdir: Path) -> list[str]:
    return (workdir / "train.log").read_text().splitlines()


def measures_of(workdir: Path) -> dict[tuple[int, str], float]:
    """What does not depend on the clock, by step and name."""
    groups = ("train/", "val/", "layers/", "ends/", "params_sha256", "batch_sha256")
    found = {
        (line["step"], name): value
        for line in lines_of(workdir)
        for name, value in line.items()
        if name.startswith(groups)
    }
    assert {step for step, name in found if name == "train/loss"} == {*range(1, STEPS + 1)}
    return found


@pytest.mark.brief
def test_one_device_and_two_have_the_same_bits(tmp_path: Path, proven: Proven) -> None:
    runs = [train(tmp_path / str(devices), devices, TINY) for devices in (1, 2)]
    assert [devices_of(workdir) for workdir in runs] == [[1, 1], [2, 2]]
    require_same_bits(runs)
    proven("T3", 0, "steps with other bits")


@pytest.mark.slow
def test_one_two_four_and_eight_devices_have_the_same_bits(tmp_path: Path, proven: Proven) -> None:
    changes = {**WIDE, "data.format": "packed"}
    runs = [train(tmp_path / str(devices), devices, changes, **AS_USED) for devices in (1, 2, 4, 8)]
    assert [devices_of(workdir) for workdir in runs] == [[1, 1], [2, 2], [4, 4], [8, 8]]
    require_same_bits(runs)
    for _ in runs[1:]:
        proven("T3", 0, "steps with other bits")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_no_recipe_depends_on_the_devices(recipe: str, tmp_path: Path, proven: Proven) -> None:
    changes, streamed = RECIPES[recipe]
    runs = [
        train(tmp_path / str(devices), devices, WIDE | changes, streamed=streamed, **AS_USED)
        for devices in (1, 4)
    ]
    assert [devices_of(workdir) for workdir in runs] == [[1, 1], [4, 4]]
    require_same_bits(runs)
    proven("T3", 0, "steps with other bits")


@pytest.mark.slow
def test_saved_on_one_resumed_on_four_and_finished_on_two(tmp_path: Path, proven: Proven) -> None:
    changes = {**WIDE, "checkpoint.every_steps": 2, "eval.every_steps": 2}
    unbroken = train(tmp_path / "unbroken", 1, changes, **AS_USED)
    broken = tmp_path / "broken"
    for devices, steps in ((1, 2), (4, 4), (2, STEPS)):
        train(broken, devices, changes | {"train.steps": steps}, **AS_USED)
    assert devices_of(unbroken) == [1, 1, 1] and devices_of(broken) == [1, 4, 2]
    require_same_bits([unbroken, broken])
    assert not [line for line in log_of(broken) if "bits may differ" in line]
    proven("T3", 0, "steps with other bits")
    train(broken, 2, changes, **AS_USED, NPROC="3")
    (line,) = [each for each in log_of(broken) if "bits may differ" in each]
    assert f"nproc {runtime.PINNED_THREADS} -> 3" in line


@pytest.mark.slow
def test_without_exact_too_parameters_are_those_saved_when_others_load_them(
    tmp_path: Path, proven: Proven
) -> None:
    workdir = train(tmp_path / "run", 1, TINY | {"parallel.exact": False})
    given = [str(workdir), 3, TINY | {"parallel.data": 1, "parallel.fsdp": 2}]
    ended = run_python(LOAD, given, {"NANOGPT_CACHE": str(tmp_path)})
    (saved,) = [
        line["params_sha256"]
        for line in lines_of(workdir)
        if (line.get("event"), line["step"]) == ("save", 3)
    ]
    assert ended.stdout.split() == [saved]
    proven("T3", 0, "parameters changed by loading")


@pytest.mark.slow
def test_exact_learns_what_the_usual_step_learns_which_keeps_no_bits(
    tmp_path: Path, proven: Proven
) -> None:
    usual = [
        train(tmp_path / f"usual {count}", count, WIDE | {"parallel.exact": False}, **AS_USED)
        for count in (1, 2)
    ]
    exact = train(tmp_path / "exact", 1, WIDE, **AS_USED)
    one, two, same = map(measures_of, (*usual, exact))
    assert one != two, "or exact is for nothing"  # losses alone have been equal to the bit
    losses = [key for key in one if key[1] == "train/loss"]
    for other in (two, same):
        for key in losses:
            assert other[key] == pytest.approx(one[key], rel=1e-4), key
            proven("T3", abs(other[key] / one[key] - 1), "of a loss, without exact")
    batches = [key for key in one if key[1] == "batch_sha256"]
    assert len(batches) == STEPS
    assert [one[key] for key in batches] == [two[key] for key in batches]


def test_what_decides_bits_and_has_changed_is_named_and_devices_are_not() -> None:
    saved = Environment("cpu", 1, 2, 8, "--xla_cpu_a=1", "0.10.2", "0.10.2", True)
    elsewhere = saved._replace(
        devices=4, cores=64, xla_flags="--xla_force_host_platform_device_count=4 --xla_cpu_a=1"
    )
    assert describe_changes(saved, elsewhere) == ""
    later = saved._replace(nproc=3, jaxlib="0.12.0.1", exact=False)
    assert describe_changes(later, saved) == (
        "nproc 3 -> 8, jaxlib '0.12.0.1' -> '0.10.2', exact False -> True"
    )


@pytest.mark.parametrize(
    "parallel",
    [
        Parallel(exact=True, mode="pmap"),
        Parallel(exact=True, fsdp=2),
        Parallel(exact=True, tensor=2),
    ],
)
def test_layouts_that_split_a_program_are_refused(parallel: Parallel) -> None:
    (problem,) = problems(parallel)
    for words in (f"fsdp={parallel.fsdp}", f"tensor={parallel.tensor}", f"mode='{parallel.mode}'"):
        assert words in problem
    assert "are required" in problem


def test_micro_shards_that_devices_cannot_share_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = r"accumulate_steps=6 micro-shards to 4 devices, a multiple of 4 is required"
    monkeypatch.setenv("NPROC", "8")
    with pytest.raises(ConfigError, match=words):
        make_exact_layout(Parallel(exact=True), 6, [None] * 4)
    config = default_config(model="gpt", optimizer="adamw", schedule="constant")
    config.train.batch_size, config.train.accumulate_steps = 12, 6
    config.parallel.exact, config.parallel.data = True, 4
    with pytest.raises(ConfigError, match=words):
        resolve(config)


@pytest.mark.parametrize("threads", ["3", "many", ""])
def test_a_thread_pool_that_grows_with_the_devices_is_refused(
    threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPROC", threads)
    with pytest.raises(ConfigError, match=f"NPROC='{threads}' and 4 devices: .* set NPROC=8"):
        make_exact_layout(Parallel(exact=True), 4, [None] * 4)


def test_a_process_that_has_started_jax_with_another_pool_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NPROC", raising=False)
    assert jax.devices()
    with pytest.raises(ConfigError, match="has started it without: set NPROC=8"):
        runtime.pin_threads()
    assert "NPROC" not in os.environ
    monkeypatch.setenv("NPROC", "5")
    runtime.pin_threads()
    assert os.environ["NPROC"] == "5", "what the user has set stays"
