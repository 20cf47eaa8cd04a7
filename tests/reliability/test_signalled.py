"""T5: a signal at any moment ends a run with everything saved.

The moments are drawn here: the process or its group, SIGINT or SIGTERM, any time after its start.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from nanogpt_jax.errors import ExitCode
from tests.reliability.conftest import Proven
from tests.reliability.saving import digests
from tests.reliability.trainer import last_step, log_of, newest, started, train

ENDED_SECONDS = 30.0
LONG = {"train.steps": 100_000, "eval.every_steps": 20}


def wait_until_it_listens(pid: int) -> None:
    """Waits for the handlers; before Python has come so far, any process just ends."""
    caught = 0
    while not caught >> (signal.SIGTERM - 1) & 1:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        time.sleep(0.002)


def interrupt_at_random(folder: Path, trials: int, seed: int, proven: Proven) -> None:
    """Signals one run again and again; it goes on where it was and never loses a step."""
    draw, run = random.Random(seed), folder / "run"
    began = time.monotonic()
    assert train(folder / "first", {"train.steps": 20}) == ExitCode.DONE
    span = time.monotonic() - began
    for _ in range(trials):
        number = draw.choice([signal.SIGINT, signal.SIGTERM])
        send = draw.choice([os.kill, os.killpg])
        with started(run, LONG) as process:
            wait_until_it_listens(process.pid)
            time.sleep(draw.uniform(0, 1.5 * span))
            signalled = time.monotonic()
            send(process.pid, number)
            code = process.wait(ENDED_SECONDS)
            seconds = time.monotonic() - signalled
        assert code == ExitCode.INTERRUPTED, (number, send, code, log_of(run).read_text()[-2000:])
        digests(run)
        assert max(last_step(run), 0) == newest(run), "a finished step was not saved"
        proven("T5", seconds, "s until ended")


@pytest.mark.sweep
def test_eight_signals_at_random_moments_lose_no_step(tmp_path: Path, proven: Proven) -> None:
    interrupt_at_random(tmp_path, 8, 1, proven)


@pytest.mark.sweep
def test_forty_signals_at_random_moments_lose_no_step(tmp_path: Path, proven: Proven) -> None:
    interrupt_at_random(tmp_path, 40, 2, proven)
