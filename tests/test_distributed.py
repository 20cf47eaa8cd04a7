"""Several processes are one run: they find each other, agree, and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanogpt_jax import distributed
from nanogpt_jax.checkpoint import list_steps
from nanogpt_jax.data.feeds import Indexed, Mixed, Packed
from nanogpt_jax.distributed import Launcher, Processes, find_launcher
from nanogpt_jax.errors import ConfigError, ExitCode
from nanogpt_jax.experiment import load_config, resolve
from nanogpt_jax.interface import Batch
from nanogpt_jax.metrics import read_metrics
from tests.runs import lines_of
from tests.several import PATIENCE_SECONDS, REPOSITORY, Several, command
from tests.slurm_node import cluster

__all__ = ["cluster"]  # a fixture

STEP = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
SHORT = {"train.steps": 30, "eval.every_steps": 30, "checkpoint.every_steps": 30}
ENDLESS = {"train.steps": 100_000, "eval.every_steps": 0, "checkpoint.every_steps": 20}


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "4"}, Launcher("Slurm", 4, 3)),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1"}, None),  # srun -n1 inside a larger job
        (STEP, None),  # a batch script, which is none of its tasks
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
            Launcher("Open MPI", 2, 1),
        ),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a.svc,b.svc"}, Launcher("GKE", 0, -1)),
        ({"TPU_WORKER_HOSTNAMES": "a.svc"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a.svc", "MEGASCALE_NUM_SLICES": "2"}, Launcher("GKE", 0, -1)),
    ],
)
def test_a_launcher_is_known_by_what_it_sets(
    variables: Mapping[str, str], found: Launcher | None
) -> None:
    assert find_launcher(variables) == found


@pytest.mark.parametrize("chip", ["accel0", "vfio/0"])
def test_a_tpu_machine_is_known_by_its_library_and_its_chips(
    chip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vfio").mkdir()
    (tmp_path / "vfio/vfio").touch()  # of any machine with the driver
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "libtpu" or None)
    assert find_launcher({}, tmp_path) is None
    (tmp_path / chip).touch()
    assert find_launcher({}, tmp_path) == Launcher("Cloud TPU", 0, -1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_launcher({}, tmp_path) is None


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Processes(num_processes=2, process_id=0), "HOST:PORT"),
        (Processes(coordinator="localhost", num_processes=2, process_id=0), "HOST:PORT"),
        (Processes(coordinator="localhost:1"), "--num_processes=0: two or more"),
        (Processes(coordinator="localhost:1", num_processes=2), "from 0 to 1"),
        (Processes(coordinator="localhost:1", num_processes=2, process_id=2), "from 0 to 1"),
    ],
)
def test_flags_that_do_not_say_who_is_who_are_refused(asked: Processes, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        distributed.join(asked)


def test_who_is_alone_is_first_and_agrees_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "4")
    distributed.join(Processes(num_processes=1))  # whatever a launcher says
    assert distributed.count() == 1 and distributed.is_first()
    assert distributed.from_first(lambda: 7) == 7


def test_several_runs_take_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Processes(coordinator="localhost:1", num_processes=2, process_id=0)
    with pytest.raises(ConfigError, match="is for one process, found --num_processes=2"):
        distributed.require_alone(asked, "a comparison")
    distributed.require_alone(Processes(), "a comparison")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(ConfigError, match="found Slurm: --num_processes=1"):
        distributed.require_alone(Processes(), "a comparison")


class Counting(np.ndarray):
    """Tokens that count how many of them were looked up."""

    looked_up = 0

    def take(self, indices: Any, *more: Any, **options: Any) -> Any:
        type(self).looked_up += np.size(indices)
        return np.asarray(self).take(indices, *more, **options)


@pytest.fixture
def packed(tmp_path: Path) -> Any:
    """(seed) -> a feed of packed documents whose tokens count."""
    plan = resolve(load_config(str(REPOSITORY / "configs/tiny.py")), [("data.stories", "100")])
    from nanogpt_jax.experiment import assemble

    run = assemble(plan, tmp_path, ())
    (part,) = run.parts
    tokens = part.store.train  # type: ignore[union-attr]
    counted = tokens._replace(ids=np.asarray(tokens.ids).view(Counting))
    return lambda seed: Packed(counted, 64, run.tokenizer.bos_id, "shuffled", seed)


def test_shares_of_a_batch_are_the_batch_and_the_rest_is_not_read(packed: Any) -> None:
    whole, first, second = packed(3), packed(3), packed(3)
    for _ in range(5):
        batch = whole.take(8)
        Counting.looked_up = 0
        upper = first.take(8, np.arange(4))
        read = Counting.looked_up
        lower = second.take(8, np.arange(4, 8))
        assert 0 < read < 0.6 * 2 * batch.inputs_BT.size  # inputs and targets
        for name in Batch._fields:
            parts = np.concatenate([getattr(upper, name), getattr(lower, name)])
            np.testing.assert_array_equal(parts, getattr(batch, name))
    assert whole.state() == first.state() == second.state()


def test_shares_of_a_mixture_stand_where_the_whole_does(packed: Any) -> None:
    def mixed() -> Mixed:
        return Mixed([1.0, 2.0], [packed(3), packed(4)])

    whole, share = mixed(), mixed()
    np.testing.assert_array_equal(
        share.take(6, np.array([1, 4])).inputs_BT, whole.take(6).inputs_BT[[1, 4]]
    )
    assert share.state() == whole.state()


def test_rows_that_are_looked_up_are_shared(packed: Any) -> None:
    class Rows:
        count = 40

        def build(self, numbers: np.ndarray) -> Batch:
            asked.extend(numbers)
            column = np.asarray(numbers)[:, None]
            return Batch(column, column, np.ones(column.shape, np.float32))

    asked: list[int] = []
    feed: Any = Indexed(Rows(), "shuffled", 0)  # type: ignore[arg-type]
    feed.take(8, slice(0, 3))
    assert len(asked) == 3 and feed.state() == {"given": 8}


def digests(workdir: Path) -> dict[int, str]:
    return {line["step"]: line["batch_sha256"] for line in lines_of(workdir) if "loss_hex" in line}


def losses(workdir: Path) -> np.ndarray:
    metrics = read_metrics(workdir / "metrics.jsonl")
    return np.array([each["train/loss"] for each in metrics.values() if "train/loss" in each])


def alone(workdir: Path, changes: Mapping[str, object]) -> None:
    done = subprocess.run(
        command(workdir, changes), cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run `SHORT` of one process."""
    workdir = tmp_path_factory.mktemp("alone") / "one"
    alone(workdir, SHORT)
    assert len(losses(workdir)) >= 3
    return workdir


@pytest.mark.slow
def test_two_processes_have_the_losses_and_batches_of_one_and_the_first_writes(
    one: Path, tmp_path: Path
) -> None:
    with Several(tmp_path / "two", SHORT) as run:
        assert run.codes() == [0, 0], run.said(0) + run.said(1)
        assert "2 x cpu" in run.said(0) and "step=30/30" in run.said(0)
        assert "step=" not in run.said(1)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(one), rtol=1e-5)
    assert digests(tmp_path / "two") == digests(one)
    first, second = (read_metrics(run / "metrics.jsonl")[30] for run in (one, tmp_path / "two"))
    np.testing.assert_allclose(second["val/loss"], first["val/loss"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["fsdp", "tensor"])
def test_parameters_split_over_two_processes_are_saved_whole(
    one: Path, tmp_path: Path, axis: str
) -> None:
    split = {**SHORT, "parallel.data": 1, f"parallel.{axis}": 2}
    with Several(tmp_path / "two", split) as run:
        assert run.codes() == [0, 0], run.said(0) + run.said(1)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(one), rtol=1e-5)
    alone(tmp_path / "two", {**SHORT, "train.steps": 40})  # one process goes on with it
    assert list_steps(tmp_path / "two")[-1] == 40


@pytest.mark.slow
def test_one_two_and_one_process_are_one_run(tmp_path: Path) -> None:
    changes = {"eval.every_steps": 0, "checkpoint.every_steps": 20, "schedule.total_steps": 60}
    alone(tmp_path / "unbroken", {**changes, "train.steps": 60})
    alone(tmp_path / "run", {**changes, "train.steps": 20})
    with Several(tmp_path / "run", {**changes, "train.steps": 40}) as run:
        assert run.codes() == [0, 0], run.said(0) + run.said(1)
        assert "resuming from step 20 of 40" in run.said(0)
    alone(tmp_path / "run", {**changes, "train.steps": 60})
    assert digests(tmp_path / "run") == digests(tmp_path / "unbroken")
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(tmp_path / "unbroken"), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "sent"), [(1, signal.SIGTERM), (0, signal.SIGINT)])
def test_a_signal_to_one_is_the_same_last_step_for_all(
    tmp_path: Path, number: int, sent: signal.Signals
) -> None:
    with Several(tmp_path / "run", ENDLESS) as run:
        run.until_said("step=30/")
        run.processes[number].send_signal(sent)
        assert run.codes(60) == [ExitCode.INTERRUPTED] * 2
        step = list_steps(tmp_path / "run")[-1]
        assert step > 30
        for each in (0, 1):
            assert f"interrupted and saved at step {step}" in run.said(each)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_process_ends_the_other_in_time_and_the_run_goes_on(
    tmp_path: Path, number: int
) -> None:
    with Several(tmp_path / "run", ENDLESS) as run:
        run.until_said("step=30/")
        run.until(lambda: list_steps(tmp_path / "run"))
        run.processes[number].kill()
        began = time.monotonic()
        codes = run.codes(distributed.HEARTBEAT_SECONDS + 10)
        assert codes[number] == -signal.SIGKILL
        assert codes[1 - number] in (ExitCode.STALLED, -signal.SIGABRT)
        assert time.monotonic() - began < distributed.HEARTBEAT_SECONDS + 10
    saved = list_steps(tmp_path / "run")[-1]
    with Several(tmp_path / "run", ENDLESS) as run:  # the lock is free, the checkpoint whole
        run.until_said(f"resuming from step {saved} ")


@pytest.mark.slow
def test_a_process_that_stands_still_ends_the_other_with_its_stacks(tmp_path: Path) -> None:
    with Several(tmp_path / "run", {**ENDLESS, "train.hang_seconds": 15}) as run:
        run.until_said("step=30/")
        run.processes[1].send_signal(signal.SIGSTOP)
        code = run.processes[0].wait(distributed.HEARTBEAT_SECONDS + 30)
        assert code in (ExitCode.STALLED, -signal.SIGABRT)
        if code == ExitCode.STALLED:
            assert "Thread 0x" in run.said(0) or "has lost the others" in run.said(0)
        run.processes[1].send_signal(signal.SIGCONT)
        assert run.processes[1].wait(distributed.HEARTBEAT_SECONDS + 30) != 0


@pytest.mark.slow
def test_a_directory_in_use_is_refused_by_all(tmp_path: Path) -> None:
    with Several(tmp_path / "run", ENDLESS) as run:
        run.until_said("step=10/")
        with Several(tmp_path / "run", ENDLESS) as second:
            second.processes[0].wait(PATIENCE_SECONDS)
            codes = second.codes(60)  # by then the other has found it gone
            assert codes[0] == ExitCode.LOCKED and codes[1] not in (0, None), second.said(1)
        assert all(each.poll() is None for each in run.processes)


@pytest.mark.slow
def test_slurm_starts_two_and_they_find_each_other(
    cluster: dict[str, str], one: Path, tmp_path: Path
) -> None:
    words = command(tmp_path / "run", SHORT)
    done = subprocess.run(
        ["srun", "-n2", "--cpus-per-task=1", "--overcommit", *words],
        cwd=REPOSITORY,
        env=cluster,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert "2 x cpu" in done.stderr and done.stderr.count("step=30/30") == 1
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(one), rtol=1e-5)


@pytest.mark.slow
def test_what_open_mpi_sets_is_enough(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "2"}
    words = command(tmp_path / "run", {"train.steps": 10, "eval.every_steps": 0})
    processes = [
        subprocess.Popen(
            words,
            cwd=REPOSITORY,
            env=os.environ
            | common
            | {
                "OMPI_COMM_WORLD_RANK": str(number),
                "OMPI_COMM_WORLD_LOCAL_RANK": str(number),
                "JAX_COORDINATOR_PORT": str(port),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        told = [each.communicate(timeout=120)[1] for each in processes]
    finally:
        for each in processes:
            each.kill()
    assert [each.returncode for each in processes] == [0, 0], told
    assert "2 x cpu" in told[0]
