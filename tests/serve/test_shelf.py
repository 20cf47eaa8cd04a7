"""Which runs of a folder have a name, and that no name leads anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanogpt_jax.serve.shelf import Shelf
from tests.serve.hostile_values import TRAVERSALS

RUNS = ["alone", "group/first", "group/second", "alone/runs/0000", "group/first/runs/0001"]


def run_at(folder: Path, name: str) -> Path:
    """A folder with a run.json, as much of a run as a shelf looks at."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "run.json").write_text("{}")
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shelf of RUNS, beside which another run lies."""
    for name in RUNS:
        run_at(tmp_path / "shelf", name)
    run_at(tmp_path, "outside")
    return tmp_path / "shelf"


def test_runs_are_found_alone_in_groups_and_where_a_server_has_trained_them(folder: Path):
    shelf = Shelf(folder)
    assert shelf.names() == sorted(RUNS)
    assert [shelf.find(name) for name in RUNS] == [folder / name for name in RUNS]


@pytest.mark.parametrize(
    "name", ["a/b/c", "a/b/c/d", "alone/checkpoints/x", ".hidden", "a/.hidden"]
)
def test_what_lies_elsewhere_is_no_run(name: str, folder: Path):
    run_at(folder, name)
    assert Shelf(folder).names() == sorted(RUNS)
    assert Shelf(folder).find(name) is None


def test_a_folder_without_a_record_is_no_run(folder: Path):
    (folder / "alone" / "run.json").unlink()
    (folder / "alone" / "run.json").mkdir()
    (folder / "group" / "first" / "run.json").unlink()
    os.mkfifo(folder / "group" / "first" / "run.json")
    left = [name for name in RUNS if name not in ("alone", "group/first")]
    assert Shelf(folder).names() == sorted(left)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/", "//", "../outside", "alone/../alone", "alone/..", "./alone"),
        *(
            "alone/",
            "/alone",
            "group//first",
            "alone/.",
            "group/../../outside",
            "alone\0",
            "\udc80",
        ),
        *("alone\\..\\alone", "~", "a" * 5000, "group", "runs", "ALONE", "alone\n", "*", "al?ne"),
    ],
)
def test_no_other_name_is_one(name: str, folder: Path):
    assert Shelf(folder).find(name) is None
    assert Shelf(folder).find(f"{folder}/{name}") is None
    assert Shelf(folder).find(str(folder.parent / "outside")) is None


def test_no_traversal_finds_anything(folder: Path):
    (folder / "secret.txt").write_text("secret")
    assert [name for name in TRAVERSALS if Shelf(folder).find(name)] == []


def test_links_are_not_followed(folder: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    run_at(outside, "inner")
    (folder / "linked").symlink_to(outside)
    (folder / "group" / "linked").symlink_to(outside)
    (folder / "linked_group").symlink_to(folder / "group")
    (folder / "alone" / "runs" / "linked").symlink_to(outside)
    record = folder / "borrowed" / "run.json"
    record.parent.mkdir()
    record.symlink_to(outside / "run.json")
    linked = ["linked", "group/linked", "linked_group/first", "alone/runs/linked", "borrowed"]
    assert all((folder / name / "run.json").is_file() for name in linked), "for whoever follows"
    assert Shelf(folder).names() == sorted(RUNS)
    assert [Shelf(folder).find(name) for name in [*linked, "linked/inner"]] == [None] * 6


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(folder)
    shelf = Shelf(tmp_path / "link")
    assert shelf.names() == sorted(RUNS)
    assert shelf.name_of(tmp_path / "link" / "group" / "first") == "group/first"


def test_a_name_that_is_no_utf_8_is_left_out(folder: Path):
    strange = os.fsdecode(b"caf\xe9")
    run_at(folder, strange)
    assert Shelf(folder).names() == sorted(RUNS)
    assert Shelf(folder).find(strange) is None
    assert Shelf(folder).name_of(folder / strange) == "caf?"


def test_a_run_is_named_by_its_place_and_elsewhere_by_its_folder(folder: Path, tmp_path: Path):
    shelf = Shelf(folder)
    assert [shelf.name_of(folder / name) for name in RUNS] == RUNS
    assert shelf.name_of(tmp_path / "outside") == "outside"
    assert shelf.name_of(folder) == "shelf"


def test_a_folder_that_is_gone_has_no_runs(tmp_path: Path):
    assert Shelf(tmp_path / "nothing").names() == []
    assert Shelf(tmp_path / "nothing").find("alone") is None
