"""T4: a save that the disk refuses is told with path and reason, at once, and harms no other."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from nanogpt_jax.errors import ExitCode
from tests.reliability.conftest import REPOSITORY, Proven
from tests.reliability.saving import Ended, digests, go_on

Saver = Callable[..., Ended]


class Fault(NamedTuple):
    """What a disk says, and to which calls."""

    code: int
    kinds: str


FULL = Fault(errno.ENOSPC, "mkdir,open,write,rename")
FORGETFUL = Fault(errno.EIO, "fsync")
BROKEN = Fault(errno.EIO, "mkdir,open,write,rename,fsync")


@pytest.fixture(scope="module")
def begun(saver: Saver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has saved step 1."""
    run = tmp_path_factory.mktemp("begun") / "run"
    assert saver(run, [1]) == Ended(0, "")
    return run


def refuse(
    saver: Saver, begun: Path, run: Path, steps: list[int], fault: Fault, at: int, mode: str
) -> bool:
    """Whether a call was refused while `steps` were saved; if so, all that is promised holds."""
    shutil.copytree(begun, run)
    before, log = digests(run), run.with_name(f"{run.name}.calls")
    ended = saver(run, steps, mode=mode, kinds=fault.kinds, at=at, errno=fault.code, log=log)
    if len(log.read_text().splitlines()) < at:
        assert ended.code == 0
        return False
    found = digests(run)
    if ended.code == 0:  # tried again with success, or refused when older ones were pruned
        assert steps[-1] in found
        shutil.rmtree(run)
        return True
    assert ended.code == ExitCode.FAILED, ended
    assert f"saving checkpoint {steps[0]} of" in ended.message
    assert str(run) in ended.message
    assert errno.errorcode[fault.code] in ended.message, ended.message
    assert os.strerror(fault.code) in ended.message
    assert before.items() <= found.items() or list(found) == steps[:1]
    assert go_on(run) == max(found), "there is room again"
    shutil.rmtree(run)
    return True


@pytest.mark.parametrize("last", [True, False], ids=["last save", "earlier save"])
@pytest.mark.parametrize("at", [1, 10, 40])
def test_a_full_disk_is_told_by_the_next_save_or_at_the_end(
    last: bool, at: int, saver: Saver, begun: Path, tmp_path: Path, proven: Proven
) -> None:
    steps = [2] if last else [2, 3]
    refused = refuse(saver, begun, tmp_path / "run", steps, FULL, at, "full")
    assert refused
    proven("T4", 1, "saves until told")


def test_a_disk_that_cannot_keep_what_it_took_is_told(
    saver: Saver, begun: Path, tmp_path: Path, proven: Proven
) -> None:
    assert refuse(saver, begun, tmp_path / "run", [2], FORGETFUL, 20, "full")
    proven("T4", 1, "saves until told")


def refuse_every(
    stride: int, saver: Saver, begun: Path, folder: Path, fault: Fault, mode: str, proven: Proven
) -> None:
    """Refuses each call in turn, or each of so many."""
    for at in itertools.count(1, stride):
        if not refuse(saver, begun, folder / str(at), [2], fault, at, mode):
            assert at > 20
            return
        proven("T4", 1, "saves until told")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "mode"),
    [(FULL, "full"), (FORGETFUL, "fail"), (BROKEN, "fail")],
    ids=["full", "forgetful", "broken"],
)
def test_whatever_call_is_refused_it_is_told(
    fault: Fault, mode: str, saver: Saver, begun: Path, tmp_path: Path, proven: Proven
) -> None:
    refuse_every(4, saver, begun, tmp_path, fault, mode, proven)


@pytest.mark.sweep
@pytest.mark.parametrize("mode", ["fail", "full"])
@pytest.mark.parametrize("fault", [FULL, FORGETFUL, BROKEN], ids=["full", "forgetful", "broken"])
def test_every_call_that_is_refused_is_told(
    fault: Fault, mode: str, saver: Saver, begun: Path, tmp_path: Path, proven: Proven
) -> None:
    refuse_every(1, saver, begun, tmp_path, fault, mode, proven)


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=2m tmpfs "$1" || exit 99
"$2" -m tests.reliability.fill "$1"
"""


@pytest.mark.sweep
def test_a_file_system_that_fills_up_and_is_cleared_again(tmp_path: Path, proven: Proven) -> None:
    """Needs the right to mount."""
    unshared = ["unshare", "--mount", "--map-root-user", "sh", "-c", ON_A_SMALL_DISK, "sh"]
    ended = subprocess.run(
        [*unshared, str(tmp_path), sys.executable], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "No space left on device" in ended.stdout
    proven("T4", 1, "saves until told")
