"""A run directory is trained in by one process at a time, and is free when that is gone."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import is_locked, lock, lock_run

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from nanogpt_jax.checkpoint.lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_at_once_until_the_first_is_killed(tmp_path):
    run = tmp_path / "new" / "run"
    command = [sys.executable, "-c", HOLD, str(run)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            errors.Locked, match=f"{run} is in use by process {holder.pid}:"
        ) as told:
            with lock_run(run):
                pass
        assert errors.exit_code_of(told.value) == 5
        holder.send_signal(signal.SIGKILL)
    with lock_run(run):
        assert (run / "lock").read_text() == str(os.getpid())


def test_the_lock_is_free_after_its_block_however_that_ended(tmp_path):
    with pytest.raises(KeyError), lock_run(tmp_path):
        raise KeyError
    with lock_run(tmp_path):
        with pytest.raises(errors.Locked, match=str(os.getpid())), lock_run(tmp_path):
            pass


def test_a_lock_that_is_held_can_be_seen_and_stays_held(tmp_path):
    assert not is_locked(tmp_path)
    with lock_run(tmp_path):
        assert is_locked(tmp_path)
        assert is_locked(tmp_path)
        with pytest.raises(errors.Locked), lock_run(tmp_path):
            pass
    assert (tmp_path / "lock").exists() and not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nothing")


def test_whoever_asks_keeps_nobody_from_training(tmp_path, monkeypatch):
    """To ask is to share the lock for a moment: here for 15 ms of the other's waiting."""
    waited = 0.0

    def sleep(seconds):
        nonlocal waited
        waited += seconds
        if waited >= 0.015:
            fcntl.flock(asking, fcntl.LOCK_UN)

    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: waited))
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        with lock_run(tmp_path):
            assert is_locked(tmp_path)


def test_a_lock_that_is_a_link_or_a_pipe_is_none(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    os.mkfifo(run / "lock")
    assert not is_locked(run)
    (run / "lock").unlink()
    (run / "lock").symlink_to(other / "lock")
    with lock_run(other):
        assert is_locked(other) and not is_locked(run)
