"""T3: a run that was killed at any moment and gone on with is the unbroken run, bit for bit.

On one core: with more, XLA's sums on CPU depend on how threads met (jax issue 39741).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax.errors import ExitCode
from tests.reliability.conftest import Proven
from tests.reliability.saving import digests
from tests.reliability.trainer import (
    KILLED,
    OPTIONS,
    PATIENCE_SECONDS,
    last_step,
    log_of,
    newest,
    started,
    told,
    train,
)

STEPS, EVERY = OPTIONS["train.steps"], OPTIONS["checkpoint.every_steps"]


def require_equal(broken: Path, unbroken: Path, steps: int) -> None:
    """Every step was fed the same batch and gave the same loss, and the last state is the same."""
    for name in ("batch_sha256", "loss_hex"):
        expected = told(unbroken, name)
        assert list(expected) == list(range(1, steps + 1))
        assert len(set(expected.values())) == steps, f"{name} says nothing"
        assert told(broken, name) == expected, name
    assert digests(broken) == digests(unbroken)
    assert newest(unbroken) == steps


def kill_at(run: Path, step: int, changes: Mapping[str, Any]) -> int:
    """Kills the run's whole group when it comes to `step`; the steps that are lost by it."""
    with started(run, changes, main=("-c", KILLED, str(step))) as process:
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL, log_of(run).read_text()
    assert last_step(run) == step
    digests(run)  # whatever is listed is whole
    return last_step(run) - newest(run)


def break_and_compare(
    folder: Path, steps_to_kill_at: list[int], changes: dict[str, Any], proven: Proven
) -> None:
    steps = changes.get("train.steps", STEPS)
    unbroken, broken = folder / "unbroken", folder / "broken"
    assert train(unbroken, changes) == ExitCode.DONE, log_of(unbroken).read_text()
    losses = [kill_at(broken, step, changes) for step in steps_to_kill_at]
    assert train(broken, changes) == ExitCode.DONE, log_of(broken).read_text()
    require_equal(broken, unbroken, steps)
    for lost in losses:
        # A save goes on while the run does, and the next one waits for it.
        assert lost <= 2 * EVERY
        proven("T3", 0, "steps with other bits")


def test_a_run_that_was_killed_has_the_losses_batches_and_state_of_an_unbroken_one(
    tmp_path: Path, proven: Proven
) -> None:
    break_and_compare(tmp_path, [27], {}, proven)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"data.prefetch": 0}, marks=pytest.mark.sweep, id="inline"),
        pytest.param({"data.format": "stream"}, marks=pytest.mark.slow, id="stream"),
        pytest.param({"data.format": "documents"}, marks=pytest.mark.sweep, id="documents"),
    ],
)
def test_several_kills_change_no_bit(
    changes: dict[str, Any], tmp_path: Path, proven: Proven
) -> None:
    draw = random.Random(str(changes))
    kills = sorted(draw.sample(range(1, STEPS), 5))
    break_and_compare(tmp_path, kills, changes, proven)


@pytest.mark.sweep
@pytest.mark.parametrize("prefetch", [0, 2])
def test_thirty_kills_at_random_moments_change_no_bit(
    prefetch: int, tmp_path: Path, proven: Proven
) -> None:
    draw = random.Random(prefetch)
    changes = {"train.steps": 300, "data.prefetch": prefetch}
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    began = time.monotonic()
    assert train(unbroken, changes) == ExitCode.DONE
    seconds = time.monotonic() - began
    kills = 0
    while kills < 30:
        with started(broken, changes) as process:
            time.sleep(draw.uniform(0, seconds / 2))
            if process.poll() is not None:
                assert process.returncode == ExitCode.DONE, log_of(broken).read_text()
                require_equal(broken, unbroken, 300)
                broken = broken.with_name(f"broken{kills}")
                continue
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)
        kills += 1
        digests(broken)
        assert last_step(broken) - newest(broken) <= 2 * EVERY
        proven("T3", 0, "steps with other bits")
    assert train(broken, changes) == ExitCode.DONE
    require_equal(broken, unbroken, 300)
