"""What a run leaves behind, and which of its saves are kept."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from nanogpt_jax import checkpoint, errors, experiment
from nanogpt_jax.checkpoint import list_steps, read_sidecar
from nanogpt_jax.metrics import read_metrics
from tests.fakes import COMPILE_EVENT
from tests.runs import SMALL, content_of, kinds_of, small_run, steps_of
from tests.train.tapped import send_sigterm


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
