"""T6: what is not finite ends the run before it is saved, so the next start is a good one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanogpt_jax import checkpoint, errors
from nanogpt_jax import train as loop
from tests.reliability.conftest import Proven
from tests.reliability.saving import digests
from tests.runs import lines_of, small_run

STEPS = 6
CHANGES = {"train.steps": STEPS, "checkpoint.every_steps": 1, "checkpoint.keep": 10}


class Poisoned:
    """Batches of which the one after `step` updates weighs nothing that is a number."""

    def __init__(self, batches: Any, step: int):
        self._batches, self._step = batches, step

    def __enter__(self) -> Poisoned:
        self._batches.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._batches.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def __next__(self) -> Any:
        batch = next(self._batches)
        self._step -= 1
        if self._step >= 0:
            return batch
        return batch._replace(weights_BT=np.full_like(batch.weights_BT, np.nan))


def poison(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """From now on the update number `step` of a run is poisoned, counted from where it starts."""
    assemble = loop.assemble

    def poisoned(*arguments: Any) -> Any:
        run = assemble(*arguments)
        return dataclasses.replace(run, batches=Poisoned(run.batches, step - 1))

    monkeypatch.setattr(loop, "assemble", poisoned)


@pytest.mark.parametrize("step", [1, 4, STEPS], ids=["first", "periodic", "last"])
def test_a_poisoned_update_ends_the_run_and_the_next_start_is_a_good_one(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proven: Proven
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        poison(patch, step)
        with pytest.raises(errors.NonFinite, match=f"step {step}") as told:
            small_run(run, CHANGES)
    assert errors.exit_code_of(told.value) == errors.ExitCode.NON_FINITE
    assert list(digests(run)) == list(range(1, step)), "no poisoned state, and every good one"
    small_run(run, CHANGES)
    assert list(digests(run)) == list(range(1, STEPS + 1))
    proven("T6", 0, "poisoned saves")


def test_a_batch_that_is_always_poison_ends_every_start_at_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proven: Proven
) -> None:
    run = tmp_path / "run"
    small_run(run, CHANGES | {"train.steps": 3, "schedule.total_steps": STEPS})
    poison(monkeypatch, 1)
    for _ in range(3):
        with pytest.raises(errors.NonFinite, match="step 4"):
            small_run(run, CHANGES)
        assert list(digests(run)) == [1, 2, 3]
        proven("T6", 0, "poisoned saves")
    assert max(line["step"] for line in lines_of(run)) <= 4
    assert checkpoint.newest_full_step(run) == 3
