"""bench gpu at a tiny size on the CPU, and what its script refuses; no GPU is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from nanogpt_jax import cli, costs
from nanogpt_jax.bench import __main__ as bench
from nanogpt_jax.bench import gpu
from nanogpt_jax.bench.verdict import judge, render
from nanogpt_jax.decoding import Decoding
from nanogpt_jax.errors import NanogptError

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = {"n_layer": 1, "n_head": 2, "d_model": 16, "length": 24, "vocab": 32}
MACHINE = {"backend": "gpu", "kind": "NVIDIA H200", "memory_bytes": 150 * 10**9, "obstacle": None}


@pytest.fixture
def _known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This CPU, as if its data sheet were in the tables."""
    monkeypatch.setitem(costs.PEAK_FLOPS, "cpu", 1e15)
    monkeypatch.setitem(costs.PEAK_BANDWIDTH, "cpu", 1e15)
    yield


def test_a_machine_without_a_gpu_is_told_what_is_required(monkeypatch: pytest.MonkeyPatch):
    found = gpu.describe(sizes=TINY)()
    assert found["backend"] == "cpu" and found["obstacle"] == "the backend cpu, not a GPU"
    monkeypatch.setattr(gpu, "look", lambda sizes: found)
    with pytest.raises(NanogptError, match=r"found cpu, required cuda: run it"):
        cli.bind(bench.COMMANDS, ["gpu"])()


@pytest.mark.slow
def test_the_device_is_looked_at_in_another_process():
    found = gpu.look(TINY, JAX_PLATFORMS="cpu")
    assert (found["backend"], found["kind"]) == ("cpu", "cpu")


def test_the_contests_of_a_gpu_are_at_the_real_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "look", lambda sizes: MACHINE)
    train, attention, decode = gpu.gpu(True)
    assert train.row == "train 12x768 T1024 B64 bfloat16 (NVIDIA H200, cuDNN)"
    assert train.amount == 10 * 64 * 1024 and train.target == 1.0
    assert [each.name for each in train.contestants] == ["ours", train.rival]
    assert train.contestants[1].arguments["compiled"] is True
    assert attention.contestants[0].arguments["cudnn"] is True
    limits = [measure.limit for each in (train, decode) for measure in each.measures]
    assert limits == [("at least", 0.45), ("at least", 0.60)]
    alone = gpu.gpu(False)
    assert [len(each.contestants) for each in alone] == [1, 1, 1]
    other = gpu.contests(gpu.GPT2_124M, 8, True, {**MACHINE, "obstacle": "an error of 9.0%"})
    assert "(NVIDIA H200, an error of 9.0%)" in other[0].row
    assert other[1].contestants[0].arguments["cudnn"] is False


@pytest.mark.parametrize(
    "gigabytes, rows", [(0, 1), (8, 4), (24, 16), (40, 32), (80, 64), (150, 64)]
)
def test_the_batch_grows_with_the_memory_by_powers_of_two(gigabytes: int, rows: int):
    assert gpu.largest_batch(gpu.GPT2_124M, gigabytes * 10**9) == rows


@pytest.mark.slow
@pytest.mark.usefixtures("_known")
def test_a_round_of_every_contest_of_ours_runs_and_is_judged():
    cpu = {**MACHINE, "kind": "cpu", "obstacle": "a CPU"}
    contests = gpu.contests(TINY, 2, False, cpu, steps=1, new_tokens=4, dtype="float32")
    lines = []
    for contest in contests:
        (ours,) = contest.contestants
        function = ours.place.partition(":")[2]
        prepare = getattr(gpu if ours.place.startswith(gpu.GPU) else gpu.ours, function)
        found = prepare(**ours.arguments)()
        lines += judge(contest, {"ours": [{"seconds": 0.5, **found}] * 2})
    shares = [line for line in lines if line.limit and not line.relative]
    assert [line.limit for line in shares] == [gpu.MFU, gpu.BANDWIDTH_SHARE]
    assert all(0 < line.values[0] < 1e-3 and line.holds is False for line in shares)
    assert "at least 0.45: missed" in render(lines)


@pytest.mark.usefixtures("_known")
def test_mfu_is_the_formula_over_the_time_of_the_round(monkeypatch: pytest.MonkeyPatch):
    work = {**TINY, "batch": 2, "steps": 3}
    monkeypatch.setattr(gpu.ours, "train", lambda **_: lambda: {"loss": 1.0})
    clock = iter((5.0, 7.0))
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: next(clock))
    found = gpu.train(dtype="float32", **work)()
    D, T, V = TINY["d_model"], TINY["length"], TINY["vocab"]
    flops_per_token = 6 * (12 * D * D + V * D) + 6 * D * T
    assert found == {"loss": 1.0, "mfu": pytest.approx(flops_per_token * 2 * T * 3 / 2 / 1e15)}


@pytest.mark.slow
@pytest.mark.usefixtures("_known")
def test_decoding_in_one_program_draws_what_the_steps_draw():
    count = 5
    found = gpu.decode(new_tokens=count, dtype="float32", **TINY)()
    assert found["bandwidth_share"] > 0
    _, model = gpu._build("float32", **TINY)
    params = model.init(jax.random.key(0))
    decoding = Decoding(model, TINY["length"])
    rng = gpu.np.random.default_rng(0)
    text = rng.integers(TINY["vocab"], size=TINY["length"] - count).tolist()
    token, cache = None, None
    for _ in range(count + 1):
        if cache is None:
            logits, cache = decoding.read(params, [text])
        else:
            logits, cache = decoding.advance(params, cache, gpu.jnp.array([token]))
        token = int(logits[0].argmax())
    assert found["last_token"] == token


def test_a_chip_that_is_in_no_table_is_named():
    with pytest.raises(NanogptError, match=r"found the chip 'cpu', required one of costs.PEAK"):
        gpu.train(batch=1, steps=1, dtype="float32", **TINY)


def run_script(
    *words: str, folder: Path = REPOSITORY, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(REPOSITORY / "scripts/bench_gpu.sh"), *words],
        cwd=folder,
        env=os.environ | {"PYTHON": sys.executable, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "words, variables, told",
    [
        (("a", "b"), {}, "found 2 arguments, required at most one"),
        (("--rounds=3",), {}, "found --rounds=3, required a file"),
        (("no/such/x.json",), {}, "found no folder no/such, required for no/such/x.json"),
        ((), {"PYTHON": "no-such-python"}, "found no program no-such-python, required a Python"),
        ((), {"WHEELS": "/no/such"}, "found no wheels in WHEELS=/no/such, required a folder"),
    ],
)
def test_the_script_says_what_it_found_and_what_it_requires(
    words: tuple[str, ...], variables: dict[str, str], told: str
):
    ended = run_script(*words, folder=REPOSITORY, **variables)
    assert ended.returncode == 2
    assert told in ended.stderr and ended.stderr.count("\n") == 1


# Logs what it is asked for; what is Python's own business it does.
FAKE = """#!/usr/bin/env bash
case "$*" in
  "- "*) exec "$REAL" "$@" ;;
  "-c import torch") exit "${FAKE_TORCH_EXIT:-0}" ;;
  *) echo "$* PYTHONPATH=${PYTHONPATH:+set}" >>"$FAKE_LOG" ;;
esac
"""


@pytest.mark.parametrize("torch", [True, False])
def test_the_script_brings_the_wheels_that_are_missing_and_starts_the_suite(
    tmp_path: Path, torch: bool
):
    wheels = tmp_path / "the wheels"
    wheels.mkdir()
    for name in ("jax-9.9-py3-none-any.whl", "no_such_package-1.0-py3-none-any.whl"):
        (wheels / name).touch()
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(FAKE)
    python.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir()
    variables = {"PYTHON": str(python), "REAL": sys.executable, "FAKE_LOG": str(log)}
    variables |= {"WHEELS": str(wheels), "OUT": str(out), "FAKE_TORCH_EXIT": "0" if torch else "1"}
    ended = run_script(folder=tmp_path, ROUNDS="3", **variables)
    assert ended.returncode == 0, ended.stderr
    installed, suite, *rest = log.read_text().splitlines()
    assert installed.startswith("-m pip install --quiet --no-index --no-deps --target ")
    assert installed.endswith(f" {wheels}/no_such_package-1.0-py3-none-any.whl PYTHONPATH=")
    assert "jax-9.9" not in installed
    peer = "torch" if torch else ""
    wanted = f"-m nanogpt_jax.bench gpu --peer={peer} --rounds=3 --json={out}/bench_gpu.json"
    assert suite == f"{wanted} PYTHONPATH=set"
    assert "-m needs_gpu" in rest[-1]
    target = installed.partition("--target ")[2].split()[0]
    assert not Path(target).exists()
