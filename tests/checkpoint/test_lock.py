"""A run directory is trained in by one process at a time, and is free when that is gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import lock_run

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
