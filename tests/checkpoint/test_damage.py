"""Whatever happens to a file of a checkpoint is noticed before use, told by name, and survived."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import choose, list_steps, newest_full_step, verify
from nanogpt_jax.checkpoint.inventory import MOST_FILES
from nanogpt_jax.checkpoint.sidecar import sealed
from tests.checkpoint.conftest import BAD, GOOD

KINDS: dict[str, Callable[[Path, Path], object]] = {}


def kind(make: Callable[[Path, Path], object]) -> Callable[[Path, Path], object]:
    KINDS[make.__name__] = make
    return make


@kind
def missing(file: Path, other: Path) -> None:
    file.unlink()


@kind
def empty(file: Path, other: Path) -> None:
    file.write_bytes(b"")


@kind
def halved(file: Path, other: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@kind
def longer(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


@kind
def zeroed(file: Path, other: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


@kind
def one_bit_flipped(file: Path, other: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@kind
def that_of_another_step(file: Path, other: Path) -> None:
    shutil.copy(other, file)


@kind
def a_link_to_its_like(file: Path, other: Path) -> None:
    away = next(each for each in file.parents if each.name == "checkpoints").with_name("away")
    file.rename(away)
    file.symlink_to(away)


@kind
def a_folder(file: Path, other: Path) -> None:
    file.unlink()
    file.mkdir()


@kind
def a_pipe(file: Path, other: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def files_of(step: Path) -> list[str]:
    return sorted(str(path.relative_to(step)) for path in step.rglob("*") if path.is_file())


def counterpart(run: Path, name: str) -> Path:
    """A file of the good step like `name` of the bad one, if it can be, but of other content."""
    own = (run / f"checkpoints/{BAD}" / name).read_bytes()
    like = run / f"checkpoints/{GOOD}" / name
    others = [like, *sorted(like.parent.iterdir()), like.parents[1] / "manifest.ocdbt"]
    return next(path for path in others if path.is_file() and path.read_bytes() != own)


def damage(run: Path, how: str, name: str) -> None:
    KINDS[how](run / f"checkpoints/{BAD}" / name, counterpart(run, name))


def require_noticed(run: Path, name: str, warnings: list[str]) -> None:
    with pytest.raises(errors.Damaged) as told:
        verify(run, BAD)
    assert (told.value.step, told.value.file) == (BAD, name)
    assert str(run / "checkpoints" / str(BAD) / name) in str(told.value)
    assert errors.exit_code_of(told.value) == 4
    with pytest.raises(errors.Damaged):
        choose(run, str(BAD))
    warnings.clear()
    assert choose(run, "last") == choose(run, "best") == GOOD
    assert choose(run, "last", full=True) == newest_full_step(run) == GOOD
    assert len(warnings) == 4 and all(f"/{BAD}/{name}" in one for one in warnings), warnings


def test_a_whole_run_verifies_without_a_word(run, warnings):
    verify(run, GOOD)
    verify(run, BAD)
    assert choose(run, "last") == choose(run, "best") == newest_full_step(run) == BAD
    assert choose(run, str(GOOD)) == GOOD
    assert warnings == []


NAMED = ("_CHECKPOINT_METADATA", "data/metadata", "metadata.json", "params/_METADATA",
         "params/manifest.ocdbt")  # fmt: skip


@pytest.mark.parametrize("name", [*NAMED, "opt_state/ocdbt.process_0/d/"])
def test_each_kind_of_damage_to_some_files_is_noticed(name, original, run, warnings):
    if name.endswith("/"):
        name = max(
            (one for one in files_of(original / f"checkpoints/{BAD}") if one.startswith(name)),
            key=lambda one: (original / f"checkpoints/{BAD}" / one).stat().st_size,
        )
    for how in KINDS:
        damage(run, how, name)
        require_noticed(run, name, warnings)
        shutil.rmtree(run)
        shutil.copytree(original, run)


@pytest.mark.slow
@pytest.mark.parametrize("how", KINDS)
def test_every_kind_of_damage_to_every_file_is_noticed(how, original, run, warnings):
    names = files_of(original / f"checkpoints/{BAD}")
    assert len(names) > 20 and {*NAMED} <= {*names}
    for name in names:
        damage(run, how, name)
        require_noticed(run, name, warnings)
        shutil.rmtree(run)
        shutil.copytree(original, run)


@pytest.mark.parametrize("name", ["extra.npy", "params/extra", "params/d/.hidden", "pipe"])
def test_a_file_too_many_is_noticed(name, run, warnings):
    extra = run / f"checkpoints/{BAD}" / name
    if name == "pipe":
        os.mkfifo(extra)
    else:
        extra.write_bytes(b"anything")
    require_noticed(run, name, warnings)


@pytest.mark.parametrize("name", ["params", "opt_state/d", "data"])
def test_a_link_in_the_place_of_a_folder_is_noticed_though_all_is_there(name, run, warnings):
    folder = run / f"checkpoints/{BAD}" / name
    folder.rename(run / "elsewhere")
    folder.symlink_to(run / "elsewhere")
    require_noticed(run, name, warnings)


@pytest.mark.parametrize("obstacle", ["link", "file", "empty folder"])
def test_what_has_taken_the_place_of_a_step_is_noticed(obstacle, run, warnings):
    step = run / f"checkpoints/{BAD}"
    step.rename(run / "elsewhere")
    if obstacle == "link":
        step.symlink_to(run / "elsewhere")
    elif obstacle == "file":
        step.write_bytes(b"")
    else:
        step.mkdir()
    assert list_steps(run) == [GOOD]
    require_noticed(run, "metadata.json", warnings)


def test_a_folder_with_far_too_much_in_it_is_not_walked_to_its_end(run):
    crowd = run / f"checkpoints/{BAD}/params/crowd"
    crowd.mkdir()
    for number in range(MOST_FILES):
        (crowd / str(number)).mkdir()
    with pytest.raises(errors.Damaged, match=f"more than {MOST_FILES} files"):
        verify(run, BAD)


def test_a_file_that_is_a_hole_is_not_read(run):
    sidecar = run / f"checkpoints/{BAD}/metadata.json"
    values = json.loads(sidecar.read_text())
    name = next(iter(values["files"]))
    os.truncate(sidecar.parent / name, 1 << 40)
    values["files"][name]["size_bytes"] = 1 << 40
    sidecar.write_text(json.dumps(sealed(values)))
    with pytest.raises(errors.Damaged, match=f"of its {1 << 40} bytes, .* are on the disk"):
        verify(run, BAD)
