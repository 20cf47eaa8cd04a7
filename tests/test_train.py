"""The loop in this process: what a run leaves, how it goes on, what ends it, what it keeps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from absl import logging

from nanogpt_jax import checkpoint, errors, experiment
from nanogpt_jax import train as loop
from nanogpt_jax.checkpoint import items, list_steps, read_sidecar
from nanogpt_jax.data.corpus import Corpus, Documents, Parts, Truth
from nanogpt_jax.data.pipeline import Batches
from nanogpt_jax.errors import ExitCode
from nanogpt_jax.experiment import assembly
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.step import train_step
from nanogpt_jax.train import Start
from tests.fakes import COMPILE_EVENT
from tests.runs import (
    SMALL,
    compiled_once,
    content_of,
    kinds_of,
    lines_of,
    small_plan,
    small_run,
    steps_of,
)


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of six steps that has ended, and the sample that it returned; not to be changed."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, small_run(workdir)


@pytest.fixture
def run(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed; its text lies where it lay."""
    (tmp_path / "tables.txt").write_bytes((finished[0].parent / "tables.txt").read_bytes())
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


class TappedBatches:
    """Batches, and something that is done when one of them is drawn."""

    def __init__(self, batches: Batches, number: int, act: Callable[[], None]):
        self._batches, self._number, self._act = batches, number, act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def __enter__(self) -> TappedBatches:
        return self

    def __exit__(self, *error: object) -> None:
        self._batches.__exit__(*error)

    def __next__(self) -> Any:
        if self._number == 0:
            self._act()
        self._number -= 1
        return next(self._batches)


@pytest.fixture
def on_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """A function that has something done when a process draws its batch N: in update N + 1."""

    def arrange(number: int, act: Callable[[], None]) -> None:
        def assembled(*arguments: Any) -> experiment.Run:
            run = experiment.assemble(*arguments)
            return dataclasses.replace(run, batches=TappedBatches(run.batches, number, act))

        monkeypatch.setattr(loop, "assemble", assembled)

    return arrange


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that makes evaluations tell what it is given, one after the other."""

    def arrange(*values: dict[str, float]) -> None:
        told = iter(values)

        def assembled(*arguments: Any) -> experiment.Run:
            evaluator: Any = SimpleNamespace(
                measure=lambda params: next(told), sample=lambda params: ({}, "a sample")
            )
            return dataclasses.replace(experiment.assemble(*arguments), evaluator=evaluator)

        monkeypatch.setattr(loop, "assemble", assembled)

    return arrange


def send_sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)


def is_finite(workdir: Path, step: int) -> bool:
    leaves = items.read_leaves(workdir / "checkpoints" / str(step), ("params",))
    return all(np.isfinite(leaf).all() for leaf in leaves.values())


# What a run leaves behind.


def test_a_run_directory_holds_exactly_what_explains_and_continues_it(
    finished: tuple[Path, str],
) -> None:
    workdir, _ = finished
    assert {path.name for path in workdir.iterdir()} == {
        "checkpoints",
        "lock",
        "metrics.jsonl",
        "run.json",
        "tensorboard",
        "tokenizer.json",
        "train.log",
    }
    record = json.loads((workdir / "run.json").read_text())
    assert record["config"]["train"]["steps"] == record["config"]["schedule"]["total_steps"] == 6
    assert record["corpus"]["source"] == "text:tables.txt"
    assert record["model"]["name"] == "embedding"
    assert record["parameters"] > 0
    assert record["tokenizer"]["kind"] == "char"
    held = experiment.load(workdir)
    assert (held.step, held.tokenizer.sha256) == (6, record["tokenizer"]["sha256"])
    sidecar = read_sidecar(workdir, 6)
    assert (sidecar.kind, sidecar.interrupted) == ("final", False)
    assert sidecar.tokens_seen == 6 * SMALL["train.batch_size"] * SMALL["train.seq_len"]
    assert sidecar.validation_loss == read_metrics(workdir / "metrics.jsonl")[6]["val/loss"]


def test_nothing_in_a_run_directory_names_an_absolute_path(tmp_path: Path) -> None:
    source = tmp_path / "source"
    small_run(source, {"train.steps": 0})
    changes = {
        "init.from": source,
        "tokenizer.path": source / "tokenizer.json",
        "data.source": f"text:{tmp_path / 'tables.txt'}",
    }
    typed = [(address, str(value)) for address, value in changes.items()]
    small_run(tmp_path / "run", {**changes, "train.steps": 1}, overrides=typed)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert "tables.txt" in record["config"]["data"]["source"], "it was given by an absolute path"
    for name, content in content_of(tmp_path / "run").items():
        assert str(tmp_path).encode() not in content, name
    assert str(tmp_path) not in (tmp_path / "run/train.log").read_text()


def test_metrics_stand_at_their_steps_each_mean_with_its_error(tmp_path: Path) -> None:
    changes = {
        "train.steps": 11,
        "log.every_steps": 4,
        "eval.every_steps": 5,
        "checkpoint.every_steps": 0,
    }
    small_run(tmp_path / "run", changes)
    assert steps_of(tmp_path / "run", "train/loss") == [4, 8, 11], "and what the last updates left"
    assert steps_of(tmp_path / "run", "val/loss") == [0, 5, 10, 11], (
        "also before the first and after the last"
    )
    measured = read_metrics(tmp_path / "run/metrics.jsonl")
    reported = measured[8]
    for mean in ("train/loss", "train/grad_norm", "perf/step_ms", "perf/tokens_per_sec"):
        assert reported[mean] > 0 and reported[f"{mean}_se"] >= 0, mean
    assert "train/lr" in reported
    assert "perf/mfu" not in reported, "the peak of a CPU is not known"
    for mean in ("val/loss", "val/perplexity", "val/bits_per_byte"):
        assert measured[11][mean] > 0 and measured[11][f"{mean}_se"] > 0, mean
    uniform = math.log(experiment.load(tmp_path / "run").tokenizer.vocab_size)
    assert measured[0]["val/loss"] == pytest.approx(uniform, abs=0.1)


def test_tensorboard_has_scalars_the_sample_and_the_hyperparameters(
    finished: tuple[Path, str],
) -> None:
    workdir, sample = finished
    (events,) = (workdir / "tensorboard").iterdir()
    content = events.read_bytes()
    for expected in ("train/loss", "val/loss", "_hparams_/session_start_info", "model.d_model"):
        assert expected.encode() in content, expected
    assert sample.splitlines()[0].encode() in content


@pytest.mark.parametrize("steps", [2, 7])
def test_one_train_and_one_evaluation_program_serve_a_run_of_any_length(
    steps: int, tmp_path: Path
) -> None:
    compiled: Counter[str] = Counter()

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event == COMPILE_EVENT:
            compiled[str(about["fun_name"])] += 1

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        small_run(tmp_path / "run", {"train.steps": steps, "eval.every_steps": 1})
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled["jit(train_step)"] == compiled["jit(sums)"] == 1, compiled


# How a run goes on.


def test_the_same_command_on_a_finished_run_trains_nothing_and_gives_the_same_sample(
    run: Path, finished: tuple[Path, str]
) -> None:
    before = content_of(run)
    assert small_run(run) == finished[1]
    after = content_of(run)
    assert {name for name in before if before[name] != after.get(name)} == {"metrics.jsonl"}
    assert steps_of(run, "train/loss") == [1, 2, 3, 4, 5, 6]


def test_more_steps_go_on_at_the_minimum_rate(run: Path) -> None:
    small_run(run, {"train.steps": 9})
    rates = {line["step"]: line["train/lr"] for line in lines_of(run) if "train/lr" in line}
    assert list(rates) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    minimum = 0.01 * experiment.load(run).plan.schedule_fields["min_ratio"]
    assert rates[2] > 2 * minimum
    assert [rates[step] for step in (7, 8, 9)] == pytest.approx([minimum] * 3)
    assert json.loads((run / "run.json").read_text())["config"]["schedule"]["total_steps"] == 6
    assert kinds_of(run)[6] == kinds_of(run)[9] == "final"


def test_fewer_steps_than_are_done_say_so_and_change_nothing(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, verbosity = content_of(run), logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    small_run(run, {"train.steps": 4})
    logging.set_verbosity(verbosity)
    assert "nothing to train: the run stands at step 6 of 4" in caplog.text
    after = content_of(run)
    assert {name for name in before if before[name] != after.get(name)} == {"metrics.jsonl"}


def test_fresh_removes_the_run_and_nothing_else(run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    small_run(run, {"model.d_model": 4, "train.steps": 1}, start=Start(fresh=True))
    assert list_steps(run) == [1]
    assert steps_of(run, "train/loss") == [1]
    assert (run / "notes.txt").read_text() == "mine"
    assert experiment.load(run).plan.model == small_plan(run.parent, {"model.d_model": 4}).model


def test_a_required_checkpoint_is_gone_on_from_and_its_lack_is_an_error(
    run: Path, tmp_path: Path
) -> None:
    small_run(run, {"train.steps": 7}, start=Start(require_checkpoint=True))
    assert steps_of(run, "train/loss")[-1] == 7
    with pytest.raises(errors.NoCheckpoint, match="found none") as told:
        small_run(tmp_path / "new", start=Start(require_checkpoint=True))
    assert errors.exit_code_of(told.value) == ExitCode.NO_CHECKPOINT
    assert content_of(tmp_path / "new") == {}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.d_model": 4}, "model.d_model"),
        ({"model.max_seq_len": 32}, "model.max_seq_len"),
        ({"tokenizer.kind": "bpe", "tokenizer.vocab_size": 300}, "tokenizer"),
        ({"data.source": "text:{}/other.txt"}, "corpus"),
    ],
)
def test_another_model_tokenizer_or_corpus_is_refused_by_name_and_touches_nothing(
    changes: dict[str, Any], named: str, run: Path
) -> None:
    (run.parent / "other.txt").write_text((run.parent / "tables.txt").read_text() + "x")
    changes = {
        name: value.format(run.parent) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    before = content_of(run)
    with pytest.raises(errors.Mismatch) as told:
        small_run(run, {**changes, "train.steps": 9})
    assert errors.exit_code_of(told.value) == ExitCode.MISMATCH
    assert named in str(told.value) and "--workdir" in str(told.value)
    assert content_of(run) == before


def test_a_run_may_start_from_the_parameters_of_another(run: Path, tmp_path: Path) -> None:
    small_run(tmp_path / "new", {"train.steps": 0, "init.from": run, "seed": 1})
    small_run(tmp_path / "cold", {"train.steps": 0, "seed": 1})
    ours, theirs, cold = (
        experiment.load(one).params for one in (tmp_path / "new", run, tmp_path / "cold")
    )
    assert not jax.tree.all(jax.tree.map(np.array_equal, cold, theirs))
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))
    with pytest.raises(errors.Mismatch, match="float32"):
        small_run(tmp_path / "wider", {"init.from": run, "model.d_model": 16})
    assert list_steps(tmp_path / "wider") == []


def test_a_run_may_start_from_any_step_of_another_and_from_its_optimizer(
    run: Path, tmp_path: Path
) -> None:
    def leaves(workdir: Path, step: int, item: str) -> dict[str, np.ndarray]:
        return items.read_leaves(workdir / "checkpoints" / str(step), (item,))

    def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
        return jax.tree.all(jax.tree.map(np.array_equal, one, other))

    start = {"train.steps": 0, "init.from": f"{run}:4", "seed": 1}
    small_run(tmp_path / "weights", start)
    small_run(tmp_path / "both", {**start, "init.optimizer": True})
    for name in ("weights", "both"):
        assert equal(leaves(tmp_path / name, 0, "params"), leaves(run, 4, "params"))
        assert not equal(leaves(tmp_path / name, 0, "params"), leaves(run, 6, "params"))
    moments = leaves(run, 4, "opt_state")
    assert equal(leaves(tmp_path / "both", 0, "opt_state"), moments)
    assert not equal(leaves(tmp_path / "weights", 0, "opt_state"), moments)
    with pytest.raises(errors.NoCheckpoint, match="found steps 2, 4, 6"):
        small_run(tmp_path / "none", {**start, "init.from": f"{run}:5"})
    with pytest.raises(errors.Mismatch, match="opt_state"):
        small_run(tmp_path / "other", {**start, "init.optimizer": True, "optimizer.name": "sgd"})
    with pytest.raises(errors.ConfigError, match=r"init\.optimizer=True needs init\.from"):
        small_run(tmp_path / "nobody", {"init.optimizer": True})


def test_a_lost_sidecar_is_never_a_silent_start_from_nothing(run: Path) -> None:
    for step in list_steps(run):
        (run / "checkpoints" / str(step) / "metadata.json").unlink()
    before = content_of(run)
    with pytest.raises(errors.NoCheckpoint, match=r"no usable checkpoint: 2, 4, 6 lacks"):
        small_run(run)
    assert content_of(run) == before


def test_a_checkpoint_without_the_record_of_its_run_is_refused(run: Path) -> None:
    (run / "run.json").unlink()
    with pytest.raises(errors.NoCheckpoint, match=r"run\.json"):
        small_run(run)
    assert not (run / "run.json").exists()


def test_a_run_killed_before_its_first_full_save_starts_again(
    tmp_path: Path, on_batch: Callable[..., None]
) -> None:
    changes = {"train.steps": 8, "checkpoint.every_steps": 0, "checkpoint.milestones": 5}

    def die() -> None:
        raise KeyError("killed")

    on_batch(4, die)
    with pytest.raises(KeyError):
        small_run(tmp_path / "run", changes)
    assert kinds_of(tmp_path / "run") == {step: "milestone" for step in (0, 1, 2, 4)}
    on_batch(2, send_sigterm)
    with pytest.raises(errors.Interrupted, match="saved at step 3"):
        small_run(tmp_path / "run", changes)
    assert list_steps(tmp_path / "run") == [0, 1, 2, 3], "4 was of the process that is no more"
    assert list(read_metrics(tmp_path / "run/metrics.jsonl")) == [0, 1, 2, 3]


# What ends a run.


def test_a_signal_ends_the_run_after_its_step_and_the_same_command_goes_on(
    tmp_path: Path, on_batch: Callable[..., None]
) -> None:
    on_batch(3, send_sigterm)
    with pytest.raises(errors.Interrupted, match="interrupted and saved at step 4") as told:
        small_run(tmp_path / "run", {"eval.every_steps": 2})
    assert errors.exit_code_of(told.value) == ExitCode.INTERRUPTED
    assert read_sidecar(tmp_path / "run", 4).interrupted
    assert steps_of(tmp_path / "run", "train/loss") == [1, 2, 3, 4], "no update unread"
    assert steps_of(tmp_path / "run", "val/loss") == [0, 2], "who is asked to end does not evaluate"
    on_batch(-1, send_sigterm)
    small_run(tmp_path / "run", {"eval.every_steps": 2})
    assert steps_of(tmp_path / "run", "train/loss") == [1, 2, 3, 4, 5, 6]
    assert steps_of(tmp_path / "run", "val/loss") == [0, 2, 4, 6], "what was put off is made good"
    assert list_steps(tmp_path / "run") == [2, 4, 6]
    assert read_sidecar(tmp_path / "run", 4).interrupted, "state 4 is written once"


def test_a_signal_during_the_last_save_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, main_thread = items.write, threading.main_thread().ident or 0

    def signalled(path: Path, *arguments: Any) -> None:
        signal.pthread_kill(main_thread, signal.SIGTERM)
        write(path, *arguments)

    monkeypatch.setattr(items, "write", signalled)
    assert small_run(tmp_path / "run", {"train.steps": 1, "checkpoint.every_steps": 0})
    assert not read_sidecar(tmp_path / "run", 1).interrupted


def test_a_failed_last_save_is_the_end_of_the_run(run: Path) -> None:
    (run / "checkpoints").rename(run / "elsewhere")
    (run / "checkpoints").write_text("in the way")
    with pytest.raises(errors.NanogptError, match=r"saving checkpoint 1 of .* failed") as told:
        small_run(run, {"train.steps": 1, "eval.every_steps": 0})
    assert errors.exit_code_of(told.value) == ExitCode.FAILED


def test_a_failed_save_ends_the_run_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(items, "write", fail)
    with pytest.raises(errors.NanogptError, match=r"saving checkpoint 2 .*No space left"):
        small_run(tmp_path / "run", {"train.steps": 10**6})


def test_a_rate_that_makes_the_loss_not_finite_ends_the_run_and_saves_no_such_state(
    tmp_path: Path,
) -> None:
    changes = {"optimizer.learning_rate": 1e30, "checkpoint.every_steps": 1, "train.steps": 50}
    with pytest.raises(errors.NonFinite) as told:
        small_run(tmp_path / "run", changes)
    assert errors.exit_code_of(told.value) == ExitCode.NON_FINITE
    assert list_steps(tmp_path / "run"), "the steps before were saved"
    assert all(is_finite(tmp_path / "run", step) for step in list_steps(tmp_path / "run"))


def test_a_state_that_its_last_update_spoiled_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiling(recipe: Any, state: Any, batch: Any, hyper: Any) -> Any:
        after, sums = train_step(recipe, state, batch, hyper)
        spoiled = jax.tree.map(lambda leaf: leaf / (after.step < 6), after.params)
        return after._replace(params=spoiled), sums

    monkeypatch.setattr(loop, "train_step", spoiling)
    with pytest.raises(errors.NonFinite, match="is not finite at step 6, so nothing was saved"):
        small_run(tmp_path / "run")
    assert steps_of(tmp_path / "run", "train/loss") == [1, 2, 3, 4, 5, 6], "all losses were finite"
    assert list_steps(tmp_path / "run") == [2, 4]


def test_a_loss_below_what_the_corpus_allows_is_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{number} is a number" for number in range(100)]
    fingerprint = hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def claiming(nats: float) -> Corpus:
        def read(val_fraction: float) -> Parts:
            return Parts(Documents(texts[:80]), Documents(texts[80:], [nats] * 20))

        truth = Truth(nats / 15, lambda text: -nats)
        return Corpus("fake", f"{fingerprint}{nats}", running=False, read=read, truth=truth)

    changes = {"train.seq_len": 32, "model.max_seq_len": 32, "train.steps": 1, "eval.samples": 0}
    monkeypatch.setattr(assembly, "open_corpus", lambda *_: claiming(1.0))
    small_run(tmp_path / "honest", changes)
    assert read_metrics(tmp_path / "honest/metrics.jsonl")[1]["val/excess_nats"] > 0
    monkeypatch.setattr(assembly, "open_corpus", lambda *_: claiming(1000.0))
    with pytest.raises(errors.Leak, match="below the entropy of the corpus") as told:
        small_run(tmp_path / "leaky", changes)
    assert errors.exit_code_of(told.value) == ExitCode.LEAK


def test_a_loss_below_the_entropy_by_chance_is_no_leak() -> None:
    loop.refuse_leak({})
    loop.refuse_leak({"val/excess_nats": -0.03, "val/excess_nats_se": 0.01})
    loop.refuse_leak({"val/excess_nats": -0.03, "val/excess_nats_se": math.nan})  # one story
    with pytest.raises(errors.Leak):
        loop.refuse_leak({"val/excess_nats": -0.05, "val/excess_nats_se": 0.01})


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"train.max_tokens": 3 * 64}, 3),
        ({"train.max_tokens": 3 * 64 + 1}, 4),
        ({"train.max_tokens": 10**9}, 6),
    ],
)
def test_a_budget_of_tokens_ends_the_run_when_it_is_spent(
    changes: dict[str, Any], last: int, tmp_path: Path
) -> None:
    small_run(tmp_path / "run", changes)
    assert list_steps(tmp_path / "run")[-1] == last
    assert steps_of(tmp_path / "run", "train/loss")[-1] == last
    assert kinds_of(tmp_path / "run")[last] == "final"


def test_a_budget_of_seconds_ends_the_run_when_it_is_spent(tmp_path: Path) -> None:
    changes = {"train.max_seconds": 0.5, "train.steps": 10**9, "checkpoint.every_steps": 0}
    assert small_run(tmp_path / "run", {**changes, "eval.every_steps": 0, "log.every_steps": 100})
    (step,) = list_steps(tmp_path / "run")
    assert 0 < step < 10**6
    assert kinds_of(tmp_path / "run") == {step: "final"}
    assert steps_of(tmp_path / "run", "val/loss") == [step]


def test_intervals_of_zero_leave_the_end_alone(tmp_path: Path) -> None:
    small_run(tmp_path / "run", {"eval.every_steps": 0, "checkpoint.every_steps": 0})
    assert kinds_of(tmp_path / "run") == {6: "final"}
    assert steps_of(tmp_path / "run", "val/loss") == [6]


def test_a_run_of_no_steps_is_evaluated_saved_and_gives_a_sample(tmp_path: Path) -> None:
    assert small_run(tmp_path / "run", {"train.steps": 0})
    assert kinds_of(tmp_path / "run") == {0: "final"}
    assert steps_of(tmp_path / "run", "val/loss") == [0]
    assert steps_of(tmp_path / "run", "train/loss") == []
    assert experiment.load(tmp_path / "run").step == 0


def test_a_second_run_in_a_directory_is_refused_and_touches_nothing(run: Path) -> None:
    before, began = content_of(run), time.monotonic()
    with checkpoint.lock_run(run), pytest.raises(errors.Locked) as told:
        small_run(run, {"train.steps": 9}, start=Start(fresh=True))
    assert time.monotonic() - began < 2
    assert errors.exit_code_of(told.value) == ExitCode.LOCKED
    assert content_of(run) == before


# What is kept.


def test_the_newest_the_best_the_milestones_and_the_final_save_are_kept(
    tmp_path: Path, losses: Callable[..., None]
) -> None:
    losses(*({"val/loss": loss} for loss in (9.0, 8.0, 1.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 2.0)))
    changes = {
        "train.steps": 17,
        "eval.every_steps": 2,
        "checkpoint.every_steps": 2,
        "checkpoint.keep": 2,
        "checkpoint.milestones": 5,
    }
    small_run(tmp_path / "run", changes)
    assert checkpoint.milestone_steps(17, 5) == (0, 1, 3, 7, 17)
    assert kinds_of(tmp_path / "run") == {
        0: "milestone",
        1: "milestone",
        3: "milestone",
        4: "periodic",  # the best
        7: "milestone",
        14: "periodic",
        16: "periodic",
        17: "final",
    }
    assert not (tmp_path / "run/checkpoints/1/opt_state").exists()
    assert experiment.load(tmp_path / "run", "0").step == 0
    assert experiment.load(tmp_path / "run", "best").step == 4
    assert experiment.load(tmp_path / "run").step == 17
    first, last = (experiment.load(tmp_path / "run", step).params for step in ("0", "last"))
    assert not jax.tree.all(jax.tree.map(np.array_equal, first, last))


def test_what_an_interrupted_run_saved_is_never_pruned(
    tmp_path: Path, on_batch: Callable[..., None]
) -> None:
    changes = {"checkpoint.keep": 1, "checkpoint.every_steps": 1, "train.steps": 8}
    on_batch(2, send_sigterm)
    with pytest.raises(errors.Interrupted):
        small_run(tmp_path / "run", changes)
    on_batch(-1, send_sigterm)
    small_run(tmp_path / "run", {**changes, "eval.every_steps": 0})
    assert 3 in list_steps(tmp_path / "run") and 4 not in list_steps(tmp_path / "run")
