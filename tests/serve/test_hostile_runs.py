"""Run directories from strangers: nothing of them is executed, and what is wrong soon refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Library

REPOSITORY = Path(__file__).resolve().parents[2]
CHANGES: dict[str, Callable[[Path], None]] = {}
HARMLESS = {"pickles_beside_the_checkpoints"}


def change(make: Callable[[Path], None]) -> Callable[[Path], None]:
    CHANGES[make.__name__] = make
    return make


def edit(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def sidecar_of(run: Path) -> Path:
    return run / "checkpoints" / "6" / "metadata.json"


class Attack:
    def __reduce__(self) -> Any:
        return os.system, ("touch attacked",)


@change
def pickles_beside_the_checkpoints(run: Path) -> None:
    put_pickles(run, run / "checkpoints")


@change
def pickles_beside_the_arrays(run: Path) -> None:
    put_pickles(run / "checkpoints" / "6", run / "checkpoints" / "6" / "params")


def put_pickles(*folders: Path) -> None:
    for folder in folders:
        for name in ("params.pkl", "evil.npy", "tokenizer.pkl", "sitecustomize.py"):
            (folder / name).write_bytes(pickle.dumps(Attack()))


@change
def pickles_for_arrays(run: Path) -> None:
    for path in (run / "checkpoints" / "6" / "params").rglob("*"):
        if path.is_file():
            path.write_bytes(pickle.dumps(Attack()))


@change
def an_import_in_the_sidecar(run: Path) -> None:
    edit(sidecar_of(run), lambda values: values.update(dtype="__import__('os').system('true')"))


@change
def a_path_in_the_sidecar(run: Path) -> None:
    edit(sidecar_of(run), lambda values: values.update(items=["../../../etc/passwd"]))


@change
def a_sidecar_that_is_passwd(run: Path) -> None:
    sidecar_of(run).unlink()
    sidecar_of(run).symlink_to("/etc/passwd")


@change
def a_sidecar_without_end(run: Path) -> None:
    sidecar_of(run).write_text("[" * 200_000)


@change
def a_large_sidecar(run: Path) -> None:
    sidecar_of(run).write_text('{"a": "' + "a" * 50_000_000 + '"}')


@change
def a_nested_record(run: Path) -> None:
    (run / "run.json").write_text('{"a":' * 100_000)


@change
def a_large_record(run: Path) -> None:
    (run / "run.json").write_text('{"a": "' + "a" * 50_000_000 + '"}')


@change
def a_record_that_is_passwd(run: Path) -> None:
    (run / "run.json").unlink()
    (run / "run.json").symlink_to("/etc/passwd")


@change
def an_unknown_word_in_the_record(run: Path) -> None:
    edit(run / "run.json", lambda values: values.update(loader="os.system"))


@change
def a_model_that_is_a_module(run: Path) -> None:
    edit(run / "run.json", lambda values: values["config"]["model"].update(name="../../os"))


@change
def a_billion_layers(run: Path) -> None:
    edit(run / "run.json", lambda values: values["config"]["model"].update(n_layer=10**9))


@change
def a_width_that_fills_the_memory(run: Path) -> None:
    edit(run / "run.json", lambda values: values["config"]["model"].update(d_model=2**40))


@change
def a_width_that_is_no_number(run: Path) -> None:
    edit(run / "run.json", lambda values: values["config"]["model"].update(d_model=float("nan")))


@change
def numbers_that_are_words(run: Path) -> None:
    edit(run / "run.json", lambda values: values["model"].update(n_layer="2"))


@change
def a_tokenizer_that_is_passwd(run: Path) -> None:
    (run / "tokenizer.json").unlink()
    (run / "tokenizer.json").symlink_to("/etc/passwd")


@change
def a_tokenizer_that_is_a_pickle(run: Path) -> None:
    (run / "tokenizer.json").write_bytes(pickle.dumps(Attack()))


@change
def a_nested_tokenizer(run: Path) -> None:
    (run / "tokenizer.json").write_text('{"a":' * 100_000)


@change
def a_kind_that_is_a_path(run: Path) -> None:
    edit(run / "tokenizer.json", lambda values: values.update(kind="../../../etc/passwd"))


@change
def an_expression_that_takes_for_ever(run: Path) -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library = Library(models.BPE({each: id_ for id_, each in enumerate(sorted(alphabet))}, []))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("(a+)+b"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    (run / "tokenizer.json").write_text(library.to_str())


@change
def arrays_that_are_a_link(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "6" / "params")
    (run / "checkpoints" / "6" / "params").symlink_to("/etc")


@pytest.fixture(scope="module")
def told(workdir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What a process that opens them all says of each."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, make in CHANGES.items():
        shutil.copytree(workdir, folder / name)
        for other in ("2", "4"):  # which would be opened instead
            shutil.rmtree(folder / name / "checkpoints" / other)
        make(folder / name)
    runs = [str(folder / name) for name in CHANGES]
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("hostile_runs.py")), str(workdir), *runs],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert not (folder / "attacked").exists()
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    return {line["folder"]: line for line in lines}


def test_a_good_run_and_files_beside_its_own_execute_nothing(told: dict[str, Any]):
    for name in ("run", *HARMLESS):
        assert told[name]["said"] == [0, 0]
        assert told[name]["events"] == []


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - HARMLESS))
def test_what_is_wrong_is_refused_soon_and_nothing_is_executed(name: str, told: dict[str, Any]):
    found = told[name]
    assert found["said"][0] in (4, 6), found
    assert found["events"] == []
    assert "root:" not in json.dumps(found["said"]), "a line of the file stands in the message"
    assert found["seconds"] < 2 and found["grown_kb"] < 100_000, found
