"""Variants of one config: each an ordinary run, then a table, a CSV and a picture of all."""

import csv
import importlib.util
import logging
from pathlib import Path

import pytest

from nanogpt_jax import comparison, record
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import load_config, load_variants
from nanogpt_jax.metrics import read_metrics

COMPARE = str(Path(__file__).resolve().parents[1] / "configs/compare.py")
CONFIG = load_config(COMPARE)
VARIANTS = {name: load_variants(COMPARE)[name] for name in ("embedding", "single_head")}
SMALL = {
    "data.stories": "40",
    "data.prefetch": "0",
    "tokenizer.kind": "char",
    "model.d_model": "8",
    "model.max_seq_len": "16",
    "train.seq_len": "16",
    "train.batch_size": "4",
    "eval.batches": "1",
    "eval.samples": "0",
    "eval.every_steps": "0",
    "log.every_steps": "1",
    "checkpoint.milestones": "0",
    "optimizer.name": "sgd",
    "schedule.name": "constant",
    "schedule.total_steps": "4",
}


def compare(folder: Path, steps: int) -> str:
    """The table of both variants after so many steps."""
    return comparison.compare(
        CONFIG, VARIANTS, folder, list((SMALL | {"train.steps": str(steps)}).items())
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder in which two variants were compared after three steps, and its table."""
    folder = tmp_path_factory.mktemp("comparison")
    return folder, compare(folder, 3)


def test_a_table_and_a_csv_have_a_row_for_every_variant(compared):
    folder, table = compared
    title, rule, *rows = table.splitlines()
    assert [row.split()[0] for row in rows] == list(VARIANTS)
    assert set(rule) == {"-"} and {len(row) for row in rows} == {len(title)}
    with open(folder / "comparison.csv", newline="") as file:
        written = list(csv.DictReader(file))
    for row, name in zip(written, VARIANTS, strict=True):
        held = record.read(folder / name)
        measured = read_metrics(folder / name / "metrics.jsonl")
        assert (row["run"], int(row["parameters"])) == (name, held.parameters)
        assert float(row["val loss"]) == pytest.approx(measured[3]["val/loss"])
        assert float(row["train loss"]) == pytest.approx(measured[3]["train/loss"])
        assert float(row["seconds"]) > 0
    parameters = [int(row["parameters"]) for row in written]
    assert parameters[0] < parameters[1]


def test_every_variant_is_a_run_of_its_own(compared):
    folder, _ = compared
    shapes = {name: record.read(folder / name).shape for name in VARIANTS}
    assert {name: shape.name for name, shape in shapes.items()} == {name: name for name in VARIANTS}
    corpora = [record.read(folder / name).corpus for name in VARIANTS]
    assert corpora[0] == corpora[1]


def test_the_same_command_with_more_steps_resumes_every_variant(compared):
    folder, _ = compared
    files = [folder / name / "metrics.jsonl" for name in VARIANTS]
    before = [path.read_bytes() for path in files]
    assert [max(read_metrics(path)) for path in files] == [3, 3]
    table = compare(folder, 4)
    # With the time in every line: what was measured before is kept, not measured again.
    assert all(path.read_bytes().startswith(old) for path, old in zip(files, before, strict=True))
    assert [max(read_metrics(path)) for path in files] == [4, 4]
    assert len(table.splitlines()) == 2 + len(VARIANTS)


def test_the_picture_needs_matplotlib_and_says_where_it_comes_from(compared, monkeypatch, caplog):
    folder, _ = compared
    assert importlib.util.find_spec("matplotlib") is None or (folder / "comparison.png").is_file()
    (folder / "comparison.png").unlink(missing_ok=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        comparison.draw(folder, list(VARIANTS))
    assert "comparison.png needs the extra [viz]" in caplog.text
    assert not (folder / "comparison.png").exists()


def test_the_picture_is_drawn(compared):
    pytest.importorskip("matplotlib")
    folder, _ = compared
    comparison.draw(folder, list(VARIANTS))
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_the_problems_of_all_variants_are_told_before_the_first_one_trains(tmp_path):
    with pytest.raises(ConfigError) as told:
        comparison.compare(CONFIG, VARIANTS, tmp_path / "new", [("model.d_head", "0")])
    assert told.value.problems == [
        "embedding: config.model.d_head is not a field; did you mean 'model.d_model'?",
        "single_head: model.d_head=0 must be greater than 0",
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_measured_is_not_available(compared, tmp_path):
    """A run that ended before its first line of training metrics has no speed."""
    folder, _ = compared
    (tmp_path / "run.json").write_bytes((folder / "embedding/run.json").read_bytes())
    lines = (folder / "embedding/metrics.jsonl").read_text().splitlines()
    evaluated = [line for line in lines if "val/loss" in line]
    (tmp_path / "metrics.jsonl").write_text(evaluated[-1] + "\n")
    row = comparison.row_of("ended", tmp_path, tokens_per_step=64)
    assert comparison.table_of([row]).splitlines()[-1].split()[-2:] == ["n/a", "n/a"]
