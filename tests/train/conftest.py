"""Runs that tests of the loop look at or change, and ways to reach into one."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt_jax import experiment
from nanogpt_jax import train as loop
from tests.runs import small_run
from tests.train.tapped import TappedBatches


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
