"""How a run goes on: with the same command, with another one, from another run, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl import logging

from nanogpt_jax import errors, experiment
from nanogpt_jax.checkpoint import items, list_steps
from nanogpt_jax.errors import ExitCode
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.start import Start
from tests.runs import content_of, kinds_of, lines_of, small_plan, small_run, steps_of
from tests.train.tapped import send_sigterm


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
    with pytest.raises(errors.NoCheckpoint, match=r"no usable checkpoint: 6 is damaged"):
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
