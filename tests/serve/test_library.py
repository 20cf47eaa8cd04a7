"""Opened runs: models that are shared, parameters that are kept for a while, files that change."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from nanogpt_jax import checkpoint
from nanogpt_jax.errors import Mismatch, NoCheckpoint
from nanogpt_jax.experiment import Opened
from nanogpt_jax.interface import Params
from nanogpt_jax.serve.library import Library, Models


@pytest.fixture
def run(shelf: Path, tmp_path: Path) -> Path:
    """A copy of the run `gpt`, to be changed."""
    shutil.copytree(shelf / "gpt", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps whose parameters were read, in turn."""
    steps, read = [], Opened.read

    def note(opened: Opened, step: int):
        steps.append(step)
        return read(opened, step)

    monkeypatch.setattr(Opened, "read", note)
    return steps


def same(left: Params, right: Params) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(left), jax.tree.leaves(right)))


def test_runs_of_one_model_share_it_and_others_do_not(shelf: Path):
    library = Library(Models())
    gpt, seed, table = (library.open(shelf / name) for name in ("gpt", "seeds/one", "table"))
    assert gpt.record.config != seed.record.config, "two runs"
    assert gpt.model is seed.model
    assert gpt.model.apply is not table.model.apply
    generators = [library.models.generator(each.model, 64) for each in (gpt, seed, table)]
    assert generators[0] is generators[1] is not generators[2]


def test_a_run_is_opened_once_until_its_record_changes(run: Path):
    library = Library(Models())
    first = library.open(run)
    assert library.open(run) is first
    first.record.save(run)
    again = library.open(run)
    assert again is not first
    assert again.model is first.model and again.tokenizer is first.tokenizer


def test_parameters_are_read_once_while_they_are_kept(shelf: Path, reads: list[int]):
    library = Library(Models())
    opened = library.open(shelf / "seeds" / "one")
    steps = checkpoint.list_steps(opened.workdir)
    assert len(steps) >= 24
    for _ in range(3):
        for step in steps:
            library.read(opened, step)
    assert reads == steps
    assert not same(library.read(opened, steps[0]), library.read(opened, steps[-1]))


def test_what_was_not_asked_for_in_long_is_forgotten(shelf: Path, reads: list[int]):
    library = Library(Models(), most_kept_bytes=1)
    opened = library.open(shelf / "gpt")
    for step in (2, 4, 2, 4, 6, 4, 6, 2):
        library.read(opened, step)
    assert reads == [2, 4, 6, 2], "two are kept whatever their size"


def test_a_step_that_is_saved_anew_is_read_anew(run: Path, shelf: Path, reads: list[int]):
    library = Library(Models())
    opened = library.open(run)
    before = library.read(opened, 6)
    other = shelf / "seeds" / "one" / "checkpoints" / "6"
    shutil.rmtree(run / "checkpoints" / "6")
    shutil.copytree(other, run / "checkpoints" / "6")
    after = library.read(opened, 6)
    assert reads == [6, 6]
    assert not same(before, after)


def test_a_step_that_was_pruned_is_none_however_lately_it_was_read(run: Path):
    library = Library(Models())
    opened = library.open(run)
    library.read(opened, 4)
    shutil.rmtree(run / "checkpoints" / "4")
    with pytest.raises(NoCheckpoint, match="found steps 2, 6"):
        library.read(opened, 4)


def test_a_damaged_checkpoint_is_refused(run: Path):
    for path in (run / "checkpoints" / "4" / "params").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    library = Library(Models())
    with pytest.raises(NoCheckpoint, match="damaged"):
        library.read(library.open(run), 4)


def test_a_checkpoint_of_another_model_is_refused(run: Path, shelf: Path):
    shutil.rmtree(run / "checkpoints" / "6")
    shutil.copytree(shelf / "table" / "checkpoints" / "6", run / "checkpoints" / "6")
    library = Library(Models())
    with pytest.raises(Mismatch, match="another run"):
        library.read(library.open(run), 6)


@pytest.mark.parametrize("name", ["run.json", "tokenizer.json"])
def test_a_run_whose_files_are_gone_is_refused_although_it_was_open(run: Path, name: str):
    library = Library(Models())
    library.open(run)
    (run / name).unlink()
    with pytest.raises(NoCheckpoint, match=f"{name} is missing"):
        library.open(run)


def test_a_directory_in_which_another_run_lies_by_now_is_opened_anew(run: Path, shelf: Path):
    """Even where its files are as old and as long as those before."""
    library = Library(Models())
    library.open(run)
    shutil.rmtree(run)
    shutil.copytree(shelf / "gpt", run)
    (run / "tokenizer.json").write_text("{}")
    with pytest.raises(NoCheckpoint, match="tokenizer"):
        library.open(run)


def test_an_outline_knows_shapes_and_reads_no_parameter(shelf: Path, reads: list[int]):
    opened = Library(Models()).open(shelf / "gpt")
    outline = opened.outline(4)
    shapes = jax.tree.map(lambda leaf: leaf.shape, outline.params)
    assert reads == [] and outline.step == 4
    assert shapes == jax.tree.map(np.shape, opened.read(4).params)
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(outline.params))


def test_many_threads_read_a_checkpoint_once(shelf: Path, reads: list[int]):
    library = Library(Models())
    found, ready = [], threading.Barrier(8)

    def ask() -> None:
        ready.wait()
        opened = library.open(shelf / "gpt")
        found.append((opened, library.read(opened, 4)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads == [4] and len(found) == 8
    assert len({(id(opened), id(params)) for opened, params in found}) == 1
