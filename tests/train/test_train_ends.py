"""What ends a run: a signal, a failure, a number that is none, a leak, a budget."""

from __future__ import annotations

import hashlib
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from nanogpt_jax import checkpoint, chronicle, errors, experiment
from nanogpt_jax import train as loop
from nanogpt_jax.checkpoint import items, list_steps, read_sidecar
from nanogpt_jax.data.corpus import Corpus, Documents, Parts, Truth
from nanogpt_jax.errors import ExitCode
from nanogpt_jax.experiment import assembly
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.start import Start
from nanogpt_jax.step import train_step
from tests.runs import content_of, kinds_of, small_run, steps_of
from tests.train.tapped import send_sigterm


def is_finite(workdir: Path, step: int) -> bool:
    leaves = items.read_leaves(workdir / "checkpoints" / str(step), ("params",))
    return all(np.isfinite(leaf).all() for leaf in leaves.values())


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


def test_a_signal_during_the_last_save_changes_nothing_but_how_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, main_thread = items.write, threading.main_thread().ident or 0

    def signalled(path: Path, *arguments: Any) -> None:
        signal.pthread_kill(main_thread, signal.SIGTERM)
        write(path, *arguments)

    monkeypatch.setattr(items, "write", signalled)
    with pytest.raises(errors.Interrupted, match="interrupted and saved at step 1"):
        small_run(tmp_path / "run", {"train.steps": 1, "checkpoint.every_steps": 0})
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
    chronicle.refuse_leak({})
    chronicle.refuse_leak({"val/excess_nats": -0.03, "val/excess_nats_se": 0.01})
    chronicle.refuse_leak({"val/excess_nats": -0.03, "val/excess_nats_se": math.nan})  # one story
    with pytest.raises(errors.Leak):
        chronicle.refuse_leak({"val/excess_nats": -0.05, "val/excess_nats_se": 0.01})


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


def test_a_budget_of_seconds_ends_the_run_when_it_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count()
    # A hundredth of a second from look to look: the first at the start, one at least for each step.
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(looks) / 100))
    changes = {"train.max_seconds": 0.5, "train.steps": 10**9, "checkpoint.every_steps": 0}
    assert small_run(tmp_path / "run", {**changes, "eval.every_steps": 0, "log.every_steps": 100})
    (step,) = list_steps(tmp_path / "run")
    assert 0 < step < 50 < next(looks)
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


def test_a_second_run_in_a_directory_is_refused_and_touches_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, sleep = [], time.sleep

    def sleeping(seconds: float) -> None:
        waits.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleeping)
    before, began = content_of(run), time.process_time()
    with checkpoint.lock_run(run), pytest.raises(errors.Locked) as told:
        small_run(run, {"train.steps": 9}, start=Start(fresh=True))
    assert time.process_time() - began + sum(waits) < 2
    assert errors.exit_code_of(told.value) == ExitCode.LOCKED
    assert content_of(run) == before
