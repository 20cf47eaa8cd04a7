"""Training beside a server: the process, its manifest, and what becomes of both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt_jax import checkpoint, record
from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.experiment import load_config, resolve
from nanogpt_jax.serve import recorded, trainer
from nanogpt_jax.serve.manifest import Manifest, TrainingRequest, name_checkpoint, path_of
from nanogpt_jax.serve.trainer import Overrides
from nanogpt_jax.serve.training import (
    RunInProgress,
    TrainingRuns,
    TrainingUnavailable,
    UnknownCheckpoint,
)

WAIT_SECONDS = 60.0
REAL_SECONDS = 600.0  # for a run that compiles and trains, beside whatever else goes on

# Stands for the command that trains: metrics, a checkpoint, and an end of the kind asked for.
SCRIPT = """
import json, pathlib, signal, sys, time
workdir, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
stop = []
if kind != "starting":
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
if kind == "fails":
    sys.exit(f"error: {workdir}/input.txt is missing; --source=text:/else/where/a.txt says where")
if kind == "crashes":
    sys.exit(7)
with open(workdir / "metrics.jsonl", "a") as file:
    for step in (2, 4):
        line = {"step": step, "train/loss": 4.0 / step, "perf/step_ms": 500.0}
        print(json.dumps(line), json.dumps({"step": step, "val/loss": "NaN"}), sep="\\n", file=file)
    file.write('{"step": 6, "train/lo')
for step in (2, 4):
    (workdir / "checkpoints" / str(step)).mkdir(parents=True)
    (workdir / "checkpoints" / str(step) / "metadata.json").write_text("{}")
while kind != "ends" and not stop:
    time.sleep(0.01)
if kind == "stubborn":
    time.sleep(60)
sys.exit(130 if stop else 0)
"""


class Fake:
    """A service that knows where its run is, and what it was asked to serve."""

    def __init__(self, workdir: Path):
        self.workdir = workdir
        self.replaced: list[Path] = []
        self.refusal: Exception | None = None

    def current(self) -> Any:
        return SimpleNamespace(workdir=self.workdir)

    def replace(self, workdir: Path) -> None:
        if self.refusal:
            raise self.refusal
        self.replaced.append(workdir)


@pytest.fixture
def home(workdir: Path, tmp_path: Path) -> Path:
    """A copy of the served run, for a server writes into its own."""
    return shutil.copytree(workdir, tmp_path / "run")


@pytest.fixture
def fake(home: Path) -> Any:
    return Fake(home)


@pytest.fixture
def open_runs(fake: Any) -> Iterator[Callable[..., TrainingRuns]]:
    """A function from the kind of process to the runs of a server; all are closed."""
    opened: list[TrainingRuns] = []

    def open_them(kind: str = "", **options: Any) -> TrainingRuns:
        def launch(config_of: Path, workdir: Path, overrides: Overrides) -> list[str]:
            return [sys.executable, "-I", "-S", "-c", SCRIPT, str(workdir), kind]

        runs = TrainingRuns(fake, **{"launch": launch, "poll_seconds": 0.01, **options})
        opened.append(runs)
        return runs

    yield open_them
    for runs in opened:
        runs.close()


def request_of(**changes: Any) -> TrainingRequest:
    values = {"train_steps": 8, "learning_rate": 0.01, "checkpoint_interval": 2, "eval_interval": 4}
    return TrainingRequest(**{**values, **changes})


def wait_for(
    runs: TrainingRuns,
    run_id: str,
    true_of: Callable[[Manifest], Any],
    seconds: float = WAIT_SECONDS,
) -> Manifest:
    """The manifest of a run once something holds; it is on disk as it is in memory."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = runs.find(run_id)
        assert found is not None
        if true_of(found):
            return found
        time.sleep(0.01)
    raise AssertionError("it never held")


def wait_for_end(runs: TrainingRuns, run_id: str, seconds: float = WAIT_SECONDS) -> Manifest:
    return wait_for(runs, run_id, lambda manifest: manifest.status != "running", seconds)


def written(home: Path, run_id: str) -> dict[str, Any]:
    return json.loads(path_of(home, run_id).read_text())


def test_a_manifest_follows_the_run_and_is_on_disk_as_it_is_told(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    runs = open_runs()
    run_id = runs.start(request_of())
    assert written(home, run_id)["status"] == "running"  # at admission
    found = wait_for(runs, run_id, lambda manifest: len(manifest.checkpoints) == 2)
    assert written(home, run_id) == found.as_json() and "error" not in found.as_json()
    assert (found.steps_completed, found.total_steps, found.training_loss) == (4, 8, 1.0)
    assert (found.steps_per_second, found.value_loss) == (2.0, None)  # NaN is no number of JSON
    assert found.seconds_left == 2  # four steps at two a second
    assert found.checkpoints == (f"run-{run_id}.step-2", f"run-{run_id}.step-4")
    assert found.request == request_of() and found.ended_at_unix is None
    assert checkpoint.list_steps(home) == [2, 4, 6]  # the manifest is no checkpoint


def test_what_is_saved_while_progress_is_read_comes_with_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = trainer.Trainer([sys.executable, "-I", "-S", "-c", ""], tmp_path / "run", "run")
    assert run.wait(WAIT_SECONDS)
    list_steps = checkpoint.list_steps

    def save_and_list(workdir: Path) -> list[int]:
        (workdir / "metrics.jsonl").write_text('{"step": 2, "train/loss": 1.5}\n')
        (workdir / "checkpoints" / "2").mkdir(parents=True)
        (workdir / "checkpoints" / "2" / "metadata.json").write_text("{}")
        return list_steps(workdir)

    monkeypatch.setattr(checkpoint, "list_steps", save_and_list)
    told = run.progress()
    assert told["checkpoints"] == (name_checkpoint("run", 2),)
    assert (told["steps_completed"], told["training_loss"]) == (2, 1.5)


def test_a_run_that_is_done_is_served_before_it_is_called_completed(
    open_runs: Callable[..., TrainingRuns], fake: Any, home: Path
):
    runs = open_runs("ends")
    run_id = runs.start(request_of())
    found = wait_for_end(runs, run_id)
    assert found.status == "completed" and found.ended_at_unix is not None
    assert found.seconds_left is None
    assert fake.replaced == [home / "runs" / run_id]
    assert runs.stop(run_id) is False
    assert runs.start(request_of()) != run_id  # and another may start


def test_a_run_is_stopped_by_one_signal_however_often_it_is_asked(
    open_runs: Callable[..., TrainingRuns], fake: Any
):
    runs = open_runs()
    run_id = runs.start(request_of())
    wait_for(runs, run_id, lambda manifest: manifest.checkpoints)
    assert runs.stop(run_id) and runs.stop(str(uuid.uuid4())) is False
    while runs.stop(run_id):  # until it has stopped
        time.sleep(0.001)
    found = wait_for_end(runs, run_id)
    assert (found.status, found.error) == ("interrupted", None)
    assert len(found.checkpoints) == 2 and fake.replaced == []


def test_a_run_that_is_stopped_while_it_starts_is_interrupted_too(
    open_runs: Callable[..., TrainingRuns],
):
    runs = open_runs("starting")
    run_id = runs.start(request_of())
    assert runs.stop(run_id)
    assert wait_for_end(runs, run_id).status == "interrupted"


def test_a_run_that_was_stopped_does_not_poison_the_next(open_runs: Callable[..., TrainingRuns]):
    runs = open_runs()
    first = runs.start(request_of())
    runs.stop(first)
    wait_for_end(runs, first)
    second = runs.start(request_of())
    found = wait_for(runs, second, lambda manifest: manifest.checkpoints)
    assert found.status == "running"


def test_one_run_at_a_time_and_the_refusal_names_it(open_runs: Callable[..., TrainingRuns]):
    runs = open_runs()
    run_id = runs.start(request_of())
    with pytest.raises(RunInProgress) as caught:
        runs.start(request_of())
    assert caught.value.run_id == run_id


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("fails", "input.txt is missing; --source=text:a.txt says where"),
        ("crashes", "the process ended with exit code 7; its process.log says more"),
    ],
)
def test_a_failed_run_says_why_and_names_no_folder(
    kind: str, error: str, open_runs: Callable[..., TrainingRuns], fake: Any
):
    runs = open_runs(kind)
    found = wait_for_end(runs, runs.start(request_of()))
    assert (found.status, found.error) == ("failed", error)
    assert fake.replaced == []


def test_a_run_that_cannot_be_served_has_failed(
    open_runs: Callable[..., TrainingRuns], fake: Any, home: Path
):
    fake.refusal = NoCheckpoint(f"{home}/runs has no checkpoint")
    runs = open_runs("ends")
    found = wait_for_end(runs, runs.start(request_of()))
    assert found.error is not None and found.error.endswith(
        "cannot serve it: runs has no checkpoint"
    )


def test_a_process_that_cannot_start_is_an_error_and_a_failed_manifest(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    runs = open_runs(launch=lambda *_: ["/no/such/program"])
    with pytest.raises(OSError):
        runs.start(request_of())
    [path] = (home / "checkpoints" / "runs").iterdir()
    assert json.loads(path.read_text())["status"] == "failed"


def test_a_manifest_that_cannot_be_written_starts_nothing(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    (home / "checkpoints" / "runs").write_text("in the way")
    with pytest.raises(OSError):
        open_runs().start(request_of())
    assert not (home / "runs").exists()


def test_a_server_that_ends_stops_its_run_and_starts_no_other(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    runs = open_runs()
    run_id = runs.start(request_of())
    wait_for(runs, run_id, lambda manifest: manifest.checkpoints)
    runs.close()
    assert written(home, run_id)["status"] == "interrupted"
    with pytest.raises(TrainingUnavailable):
        runs.start(request_of())


def test_a_run_that_does_not_stop_in_time_is_ended(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    runs = open_runs("stubborn")
    run_id = runs.start(request_of())
    wait_for(runs, run_id, lambda manifest: manifest.checkpoints)
    began = time.monotonic()
    runs.close(patience_seconds=0.1)
    assert time.monotonic() - began < 10
    wait_for_end(runs, run_id)  # killed; whoever follows it may be late to say so
    assert written(home, run_id)["status"] == "interrupted"


def test_after_a_restart_old_runs_are_known_and_one_without_a_process_was_interrupted(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    done, lost = open_runs("ends"), str(uuid.uuid4())
    run_id = done.start(request_of())
    wait_for_end(done, run_id)
    old = {**written(home, run_id), "run_id": lost, "status": "running", "ended_at_unix": None}
    del old["steps_per_second"]  # as an older version wrote it
    path_of(home, lost).write_text(json.dumps(old))
    os.utime(path_of(home, lost), (1000, 1000))

    runs = open_runs()
    assert runs.find(run_id) == done.find(run_id)
    found = runs.find(lost)
    assert found is not None and (found.status, found.ended_at_unix) == ("interrupted", 1000)
    assert written(home, lost)["status"] == "interrupted"
    assert runs.find(str(uuid.uuid4())) is None


def test_a_run_of_another_server_on_the_same_folder_is_left_alone(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    other, runs = open_runs(), open_runs()
    run_id = other.start(request_of())
    with checkpoint.lock_run(home / "runs" / run_id):
        found = runs.find(run_id)
        assert found is not None and found.status == "running"


def test_a_damaged_manifest_is_no_run(open_runs: Callable[..., TrainingRuns], home: Path):
    run_id = str(uuid.uuid4())
    path_of(home, run_id).parent.mkdir()
    path_of(home, run_id).write_text('{"run_id": 3}')
    with pytest.raises(ValueError):
        open_runs().find(run_id)


def test_a_run_has_the_served_config_but_for_what_was_asked(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    seen: list[Overrides] = []

    def launch(config_of: Path, workdir: Path, overrides: Overrides) -> list[str]:
        seen.append(overrides)
        words = trainer.command(config_of, workdir, overrides)
        assert words[1:3] == ["-m", "nanogpt_jax.main"] and f"--workdir={workdir}" in words
        assert f"--config={recorded.__file__}:{home}" in words
        return [sys.executable, "-I", "-S", "-c", ""]

    runs = open_runs(launch=launch, source="text:elsewhere.txt")
    for resume_from in (None, 4):
        wait_for_end(runs, runs.start(request_of(resume_from=resume_from)))
    was = resolve(load_config(f"{recorded.__file__}:{home}"))
    assert was.config.to_dict() == record.read(home).config
    fresh, resumed = (
        resolve(was.config, [(name, str(value)) for name, value in overrides]) for overrides in seen
    )
    assert (fresh.model, fresh.seed, fresh.data.source) == (
        was.model,
        was.seed,
        "text:elsewhere.txt",
    )
    assert (fresh.steps, fresh.total_steps, fresh.optimizer.learning_rate) == (8, 8, 0.01)
    assert (fresh.checkpoint.every_steps, fresh.eval.every_steps) == (2, 4)
    assert Path(fresh.tokenizer.path).samefile(home / "tokenizer.json")
    assert fresh.init.run() is None
    assert resumed.init.run() == (home, "4") and resumed.init.optimizer


def test_a_run_goes_on_from_a_checkpoint_of_another_run(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    seen: list[Overrides] = []

    def launch(config_of: Path, workdir: Path, overrides: Overrides) -> list[str]:
        seen.append(overrides)
        return [sys.executable, "-I", "-S", "-c", ""]

    run_id = str(uuid.uuid4())
    shutil.copytree(home / "checkpoints" / "4", home / "runs" / run_id / "checkpoints" / "4")
    runs = open_runs(launch=launch)
    runs.start(request_of(resume_from=name_checkpoint(run_id, 4)))
    assert ("init.from", f"{home / 'runs' / run_id}:4") in seen[0]


@pytest.mark.parametrize(
    "name",
    [
        *("3", "-2", "04", "4.0", "", " 4", "٤", "9" * 3000, "last", "checkpoints/4", "../run/4"),
        *("/etc/passwd", "run-..-4", "run-00000000-0000-0000-0000-000000000000.step-4", "4\0", -4),
    ],
)
def test_only_a_name_of_a_checkpoint_of_this_server_can_be_resumed_from(
    name: str | int, open_runs: Callable[..., TrainingRuns], home: Path
):
    with pytest.raises(UnknownCheckpoint) as caught:
        open_runs().start(request_of(resume_from=name))
    assert str(home) not in str(caught.value) and not (home / "runs").exists()


def test_a_model_of_an_unknown_corpus_cannot_be_trained_unless_one_is_named(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    text = (home / "run.json").read_text()
    fingerprint = record.read(home).corpus["fingerprint"]
    (home / "run.json").write_text(text.replace(fingerprint, "unknown"))
    with pytest.raises(TrainingUnavailable):
        open_runs().start(request_of())
    open_runs("ends", source="text:here.txt").start(request_of())


def test_a_second_process_needs_room_on_the_device(monkeypatch: pytest.MonkeyPatch):
    assert trainer.device_refusal() is None  # CPU
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    assert "XLA_PYTHON_CLIENT_PREALLOCATE=false" in str(trainer.device_refusal())
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert trainer.device_refusal() is None
    monkeypatch.setattr("jax.default_backend", lambda: "tpu")
    assert "one process at a time" in str(trainer.device_refusal())


def test_the_process_is_of_a_group_of_its_own_and_stands_back(
    open_runs: Callable[..., TrainingRuns], home: Path
):
    runs = open_runs()
    run_id = runs.start(request_of())
    wait_for(runs, run_id, lambda manifest: manifest.checkpoints)
    assert runs._last is not None
    pid = runs._last.trainer._process.pid
    assert os.getpgid(pid) == pid != os.getpgrp()
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    os.killpg(pid, signal.SIGKILL)  # by somebody else
    assert wait_for_end(runs, run_id).error == (
        "the process ended with signal 9; its process.log says more"
    )


@pytest.mark.slow
def test_a_real_run_trains_on_from_the_served_weights_and_its_checkpoints_load(
    fake: Any, home: Path, workdir: Path
):
    runs = TrainingRuns(fake, source=f"text:{workdir.parent / 'tables.txt'}")
    run_id = runs.start(request_of(resume_from="6", train_steps=4))
    found = wait_for_end(runs, run_id, REAL_SECONDS)
    assert (found.status, found.error) == ("completed", None)
    assert found.steps_completed == 4 and found.steps_per_second
    assert found.training_loss and found.value_loss
    assert found.checkpoints[-1] == name_checkpoint(run_id, 4)
    assert fake.replaced == [home / "runs" / run_id]
    assert checkpoint.choose(fake.replaced[0], "last") == 4

    again = runs.start(request_of(train_steps=100_000))
    wait_for(runs, again, lambda manifest: manifest.steps_completed, REAL_SECONDS)
    assert runs.stop(again)
    stopped = wait_for_end(runs, again, REAL_SECONDS)
    assert stopped.status == "interrupted"
    last = checkpoint.read_sidecars(home / "runs" / again)[-1]
    assert last.interrupted and stopped.checkpoints[-1] == name_checkpoint(again, last.step)


@pytest.mark.slow
def test_a_real_run_of_a_recipe_is_another_model_on_the_same_corpus_and_tokens(
    fake: Any, home: Path, workdir: Path
):
    runs = TrainingRuns(fake, source=f"text:{workdir.parent / 'tables.txt'}")
    run_id = runs.start(request_of(recipe="single_head", train_steps=4))
    found = wait_for_end(runs, run_id, REAL_SECONDS)
    assert (found.status, found.error, found.steps_completed) == ("completed", None, 4)
    served, trained = record.read(home), record.read(home / "runs" / run_id)
    assert (served.shape.name, trained.shape.name) == ("gpt", "single_head")
    assert trained.shape.max_seq_len == served.shape.max_seq_len
    assert (trained.tokenizer, trained.corpus) == (served.tokenizer, served.corpus)
