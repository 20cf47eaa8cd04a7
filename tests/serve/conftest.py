"""Runs to serve, trained once: one on a text, one on conversations."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanogpt_jax.serve.service import Service
from nanogpt_jax.train import train
from tests.runs import small_plan, tuned_run

MODEL = {
    "model.n_layer": 2,
    "model.n_head": 4,
    "model.n_kv_head": 2,
    "model.d_model": 32,
    "model.max_seq_len": 64,
    "train.seq_len": 64,
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for runs."""
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="session")
def workdir(runs: Path) -> Path:
    """A run of two layers, with characters as tokens, a context of 64, and steps 2, 4 and 6."""
    folder = runs / "text"
    folder.mkdir()
    train(small_plan(folder, MODEL, "gpt"), folder / "run")
    return folder / "run"


@pytest.fixture(scope="session")
def chat_workdir(runs: Path) -> Path:
    """A run that knows tests.runs.ANSWERS by heart; its context has 32 tokens."""
    folder = runs / "chat"
    folder.mkdir()
    tuned_run(folder)
    return folder / "run"


@pytest.fixture(scope="session")
def shelf(runs: Path, workdir: Path) -> Path:
    """A folder of runs on one text: `gpt`, `seeds/one` (24 milestones of the same model), `table`.

    The first is a copy of `workdir`, the last a table of embeddings without a site to look at.
    """
    folder = runs / "shelf"
    (folder / "seeds").mkdir(parents=True)
    shutil.copytree(workdir, folder / "gpt")
    seed = {**MODEL, "seed": 1, "train.steps": 24, "checkpoint.milestones": 90}
    seed |= {"eval.every_steps": 12, "checkpoint.every_steps": 24}
    train(small_plan(folder, seed, "gpt"), folder / "seeds" / "one")
    train(small_plan(folder, {"model.max_seq_len": 64}), folder / "table")
    return folder


@pytest.fixture(scope="session")
def shelf_service(shelf: Path) -> Iterator[Service]:
    """The run `gpt` of the shelf, served; the others beside it."""
    yield from _serve(shelf / "gpt")


@pytest.fixture(scope="session")
def service(workdir: Path) -> Iterator[Service]:
    """The text run, ready, with four slots."""
    yield from _serve(workdir)


@pytest.fixture(scope="session")
def chat_service(chat_workdir: Path) -> Iterator[Service]:
    """The chat run, likewise."""
    yield from _serve(chat_workdir)


def _serve(workdir: Path) -> Iterator[Service]:
    service = Service(workdir, slots=4, queue_length=16)
    engine = service.current().engine
    while engine.state == "loading":
        time.sleep(0.02)
    assert engine.state == "ready"
    yield service
    engine.close()
