"""T2: a checkpoint whose files have changed is named, set aside and never trained from."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nanogpt_jax import checkpoint, errors
from tests.reliability.conftest import Proven
from tests.runs import lines_of, small_run

SAVED = (2, 4, 6)
GOING_ON = {"train.steps": 8}


def remove(path: Path, other: Path) -> None:
    path.unlink()


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path, other: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


HARMS = (remove, empty, halve, zero, flip, swap)
Harm = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has saved steps 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("whole")
    small_run(folder / "run")
    assert tuple(checkpoint.list_steps(folder / "run")) == SAVED
    return folder / "run"


def files_of(run: Path, step: int) -> list[Path]:
    """The files of a step; those of equal steps stand in equal places of the list."""
    root = run / "checkpoints" / str(step)
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def harm_file(run: Path, index: int, harm: Harm, step: int = SAVED[-1]) -> Path | None:
    """Harms one file of a step, and returns its path in there; None where nothing has changed."""
    root = run / "checkpoints"
    name, others = files_of(run, step)[index], files_of(run, SAVED[0])
    other = others[index % len(others)]  # a step may have a file more than another
    before = (root / str(step) / name).read_bytes()
    harm(root / str(step) / name, root / str(SAVED[0]) / other)
    path = root / str(step) / name
    return None if path.exists() and path.read_bytes() == before else name


def copy_of(whole: Path, folder: Path) -> Path:
    """A copy of the run beside the text that it learns."""
    folder.mkdir(exist_ok=True)
    for name in ("tables.txt", "run"):
        source = whole.parent / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder / "run"


def fall_back(
    whole: Path, folder: Path, index: int, harm: Harm, caplog: pytest.LogCaptureFixture
) -> bool:
    """Whether a file was harmed; if so, all that is promised holds when the run goes on."""
    run = copy_of(whole, folder)
    name = harm_file(run, index, harm)
    if name is None:
        return False
    left, lines = files_of(run, SAVED[-1]), lines_of(run)
    with pytest.raises(errors.Damaged) as told:
        checkpoint.verify(run, SAVED[-1])
    assert name.name in str(told.value)
    caplog.clear()
    small_run(run, GOING_ON)
    loud = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    (warning,) = (message for message in loud if name.name in message)
    assert f"checkpoints/{SAVED[-1]}" in warning or f"step {SAVED[-1]}" in warning
    resumed = lines_of(run)[len(lines)]
    assert (resumed["event"], resumed["step"]) == ("resume", SAVED[-2])
    assert checkpoint.list_steps(run)[-2:] == [SAVED[-1], GOING_ON["train.steps"]]
    (run / "checkpoints" / str(SAVED[-1])).rename(run / "checkpoints" / "again")
    (run / "checkpoints" / f"{SAVED[-1]}.bad").rename(run / "checkpoints" / str(SAVED[-1]))
    assert files_of(run, SAVED[-1]) == left, "what was set aside is kept as it was"
    shutil.rmtree(folder)
    return True


@pytest.mark.parametrize(
    ("part", "harm"), [("params", flip), ("metadata.json", halve), ("data", remove)]
)
def test_a_damaged_step_is_named_and_set_aside_and_the_one_before_is_used(
    part: str,
    harm: Harm,
    whole: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    proven: Proven,
) -> None:
    files = files_of(whole, SAVED[-1])
    index = max(i for i, path in enumerate(files) if path.parts[0] == part)
    assert fall_back(whole, tmp_path / "one", index, harm, caplog)
    proven("T2", 1, "saves lost")


@pytest.mark.slow
def test_every_file_and_every_way_to_damage_one_is_noticed(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, proven: Proven
) -> None:
    count = len(files_of(whole, SAVED[-1]))
    for index, harm in zip(range(count), itertools.cycle(HARMS), strict=False):
        if fall_back(whole, tmp_path / str(index), index, harm, caplog):
            proven("T2", 1, "saves lost")


@pytest.mark.sweep
@pytest.mark.parametrize("harm", HARMS)
def test_every_damage_to_every_file_is_noticed(
    harm: Harm, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, proven: Proven
) -> None:
    for index in range(len(files_of(whole, SAVED[-1]))):
        if fall_back(whole, tmp_path / str(index), index, harm, caplog):
            proven("T2", 1, "saves lost")


def test_where_no_step_is_good_a_run_ends_and_never_starts_over(
    whole: Path, tmp_path: Path, proven: Proven
) -> None:
    run = copy_of(whole, tmp_path / "all")
    for step in SAVED:
        assert harm_file(run, -1, halve, step) is not None
    held = sum(path.is_file() for path in (run / "checkpoints").rglob("*"))
    lines = lines_of(run)
    for _ in range(2):  # nor does the next start
        with pytest.raises(errors.NoCheckpoint) as told:
            small_run(run, GOING_ON)
        assert errors.exit_code_of(told.value) == errors.ExitCode.NO_CHECKPOINT
        assert lines_of(run) == lines
        assert sum(path.is_file() for path in (run / "checkpoints").rglob("*")) == held
        proven("T2", 0, "silent starts from step 0")
