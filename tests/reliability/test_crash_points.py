"""T1: SIGKILL before any call of a save leaves a run that goes on as if nothing had happened."""

from __future__ import annotations

import itertools
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.reliability.conftest import Proven
from tests.reliability.saving import Ended, digests, go_on

KINDS = ("rename", "mkdir", "open", "write", "fsync", "unlink")
# What makes a save the newest one, and what makes it last.
DECIDING = ("rename", "mkdir", "fsync")
ROUNDS = 5
Saver = Callable[..., Ended]


class Undisturbed(NamedTuple):
    """A run with step 1, the digests of steps 1 to 3, and the calls by which step 2 is saved."""

    run: Path
    digests: dict[int, str]
    calls: list[list[str]]


@pytest.fixture(scope="module")
def undisturbed(saver: Saver, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    run, whole = folder / "run", folder / "whole"
    assert saver(run, [1]) == Ended(0, "")
    shutil.copytree(run, whole)
    log = folder / "calls"
    assert saver(whole, [2], mode="count", log=log).code == 0
    calls = [line.split("\t") for line in log.read_text().splitlines()]
    shutil.rmtree(whole)
    assert saver(whole, [1, 2, 3], keep=3) == Ended(0, "")
    return Undisturbed(run, digests(whole), calls)


def crash(saver: Saver, undisturbed: Undisturbed, run: Path, kind: str, number: int) -> int | None:
    """The saves that a kill before a call costs; None where there is no such call any more."""
    shutil.copytree(undisturbed.run, run)
    ended = saver(run, [2], mode="kill", kinds=kind, at=number)
    if ended.code == 0:
        assert digests(run)[2] == undisturbed.digests[2]
        shutil.rmtree(run)
        return None
    assert ended.code == -signal.SIGKILL, ended
    found = digests(run)
    assert found and found.items() <= undisturbed.digests.items()
    newest = go_on(run)
    assert digests(run) == {newest + 1: undisturbed.digests[newest + 1]}
    shutil.rmtree(run)
    return 2 - newest


def crash_at(
    places: Iterable[tuple[str, int]],
    saver: Saver,
    undisturbed: Undisturbed,
    folder: Path,
    proven: Proven,
) -> int:
    """Kills at each place until there is none, and returns how many there were."""
    for count, (kind, number) in enumerate(places):
        lost = crash(saver, undisturbed, folder / f"{kind}_{number}", kind, number)
        if lost is None:
            return count
        assert lost <= 1, (kind, number)
        proven("T1", lost, "saves lost")
    return count + 1


def test_a_kill_before_an_early_a_middle_and_a_late_call_of_each_kind_loses_one_save_at_most(
    saver: Saver, undisturbed: Undisturbed, tmp_path: Path, proven: Proven
) -> None:
    counted = Counter(kind for kind, *_ in undisturbed.calls)
    assert counted.keys() == set(KINDS) and min(counted.values()) > 3
    # How often threads wait for each other, and so the count, differs a little from run to run.
    shares = (0, 1 / 2, 3 / 4)
    places = [(kind, 1 + int(share * counted[kind])) for kind in KINDS for share in shares]
    assert crash_at(places, saver, undisturbed, tmp_path, proven) == len(places)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if kind in DECIDING else pytest.mark.sweep)
        for kind in KINDS
    ],
)
def test_a_kill_before_any_call_of_a_save_loses_one_save_at_most(
    kind: str, saver: Saver, undisturbed: Undisturbed, tmp_path: Path, proven: Proven
) -> None:
    places = ((kind, number) for number in itertools.count(1))
    assert crash_at(places, saver, undisturbed, tmp_path, proven) > 10


@pytest.mark.sweep
@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_order_threads_take_a_kill_loses_one_save_at_most(
    kind: str, turn: int, saver: Saver, undisturbed: Undisturbed, tmp_path: Path, proven: Proven
) -> None:
    places = ((kind, number) for number in itertools.count(1))
    assert crash_at(places, saver, undisturbed, tmp_path, proven) > 10


def test_all_that_a_step_holds_is_on_the_disk_before_it_is_listed_and_its_name_soon_after(
    undisturbed: Undisturbed, proven: Proven
) -> None:
    root = str(undisturbed.run.with_name("whole") / "checkpoints")
    unsynced, after = audit(undisturbed.calls, f"{root}/2")
    assert unsynced == set()
    assert ["fsync", root] in after
    proven("T1", len(unsynced), "files or folders not synced")


def audit(calls: Sequence[list[str]], final: str) -> tuple[set[str], list[list[str]]]:
    """What was below `final` and not synced when it got that name, and the calls after that."""
    unsynced: set[str] = set()
    for index, (kind, path, *others) in enumerate(calls):
        folder = path.rpartition("/")[0]
        if kind == "write":
            unsynced.add(path)
        elif kind in ("open", "mkdir"):
            unsynced.add(folder)
        elif kind == "fsync":
            unsynced.discard(path)
        else:
            below = {each for each in unsynced if f"{each}/".startswith(f"{path}/")}
            unsynced -= below
            if kind == "rename":
                (target,) = others
                if target == final:
                    return below, list(calls[index + 1 :])
                unsynced |= {target + each.removeprefix(path) for each in below}
                unsynced.add(target.rpartition("/")[0])
    raise AssertionError(f"{final} was never listed")
