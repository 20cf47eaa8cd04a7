"""`run.json`: written whole, read or refused, and free of this machine's folders."""

import dataclasses
import json
import subprocess

import pytest

from nanogpt_jax import record
from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.interface import ModelShape
from nanogpt_jax.record import Record, without_folders

SHAPE = ModelShape("gpt", 65, 2, 4, 2, 64, 128)
RECORD = Record(
    config={"seed": 0, "train": {"steps": 3}},
    overrides=["train.steps=3"],
    git_commit=None,
    versions={"python": "3"},
    tokenizer={"kind": "char", "sha256": "ab", "vocab_size": 65},
    corpus={"source": "text:a.txt", "fingerprint": "cd", "running": True, "opening": "First,"},
    model=SHAPE._asdict(),
    parameters=12,
)


def test_a_record_is_read_as_it_was_saved(tmp_path):
    RECORD.save(tmp_path / "run")
    found = record.read(tmp_path / "run")
    assert found is not RECORD and found == RECORD
    assert found.shape == SHAPE
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_record_that_cannot_be_written_leaves_the_one_before(tmp_path):
    RECORD.save(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    unwritable = dataclasses.replace(RECORD, config={"seed": object()})
    with pytest.raises(TypeError):
        unwritable.save(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    "content, reason",
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ("{}", "version None found, 1 is required"),
        (json.dumps(dataclasses.asdict(RECORD) | {"version": 9}), "version 9 found, 1 is required"),
        (json.dumps(dataclasses.asdict(RECORD) | {"more": 1}), "more"),
    ],
)
def test_a_damaged_record_is_no_run(content, reason, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(NoCheckpoint, match=reason) as told:
        record.read(tmp_path)
    assert str(tmp_path / "run.json") in str(told.value)


def test_a_record_that_is_older_than_openings_has_none(tmp_path):
    values = dataclasses.asdict(RECORD)
    del values["corpus"]["opening"]
    (tmp_path / "run.json").write_text(json.dumps(values))
    assert record.read(tmp_path).corpus == RECORD.corpus | {"opening": ""}


@pytest.mark.parametrize(
    "opening, reason",
    [
        (5, "opening is 5"),
        (None, "opening is None"),
        (["a"], "opening is"),
        ("a" * 41, "opening has 41 characters, at most 40 are required"),
    ],
)
def test_an_opening_of_another_type_or_length_is_damage(opening, reason, tmp_path):
    corpus = RECORD.corpus | {"opening": opening}
    (tmp_path / "run.json").write_text(json.dumps(dataclasses.asdict(RECORD) | {"corpus": corpus}))
    with pytest.raises(NoCheckpoint, match=reason):
        record.read(tmp_path)


def test_an_opening_of_the_greatest_length_is_kept(tmp_path):
    long = dataclasses.replace(RECORD, corpus=RECORD.corpus | {"opening": "文" * 40})
    long.save(tmp_path)
    assert record.read(tmp_path) == long


def test_a_folder_without_a_record_is_no_run(tmp_path):
    with pytest.raises(NoCheckpoint, match=r"is no run directory: it has no run.json; .*--workdir"):
        record.read(tmp_path)


@pytest.mark.parametrize(
    "value, kept",
    [
        ("text:/home/somebody/data/a.txt", "text:a.txt"),
        ("/home/somebody/run/", "run/"),
        ("/a.txt", "a.txt"),
        ("data.source=text:/home/some body/a=b.txt", "data.source=text:a=b.txt"),
        ("init.from=/home/somebody/run", "init.from=run"),
        ("text:data/a.txt", "text:data/a.txt"),
        ("../run", "../run"),
        ("hf://somebody/a", "hf://somebody/a"),
        ("a/b:/c", "a/b:/c"),
        ("files:/home/somebody/*.jsonl?column=a", "files:*.jsonl?column=a"),
        ("mix:0.5*text:/home/a+b.txt+.5*files:/home/c", "mix:0.5*text:a+b.txt+.5*files:c"),
        ("data.source=mix:1*text:/a/b.txt+1*hf://c/d", "data.source=mix:1*text:b.txt+1*hf://c/d"),
        ("1/2", "1/2"),
        ("", ""),
        (3, 3),
    ],
)
def test_an_absolute_path_keeps_its_name_only(value, kept):
    assert without_folders(value) == kept
    assert without_folders({"a": [value]}) == {"a": [kept]}


def test_a_commit_is_named_and_marked_where_files_differ(monkeypatch, tmp_path):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(tmp_path)]
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    assert record.git_commit() is None
    (tmp_path / "a").write_text("1")
    for words in (["init", "-q"], ["add", "a"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    clean = record.git_commit()
    assert clean and len(clean) == 12
    (tmp_path / "a").write_text("2")
    assert record.git_commit() == f"{clean}+"


def test_versions_are_those_that_decide_numbers():
    assert record.versions().keys() == {"python", *record.PACKAGES}
