"""A stranger's checkpoint, sealed as ours are: what it declares is weighed before it is read."""

import json
import resource
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorstore

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import (
    choose,
    digest_step,
    inventory,
    load_params,
    newest_full_step,
    verify,
)
from nanogpt_jax.checkpoint.sidecar import sealed

TERABYTE = 1 << 40


@pytest.fixture
def step(open_run, save, tmp_path) -> Path:
    """The folder of the only checkpoint of a run."""
    with open_run() as checkpoints:
        save(checkpoints, 1)
    return tmp_path / "checkpoints" / "1"


def seal(step: Path) -> None:
    """Makes the sidecar agree with the files, as a stranger would."""
    path = step / "metadata.json"
    values = json.loads(path.read_text())
    path.unlink()
    files = {name: mark._asdict() for name, mark in inventory.take(step).items()}
    path.write_text(json.dumps(sealed(values | {"files": files})))


def declare(step: Path, **changes) -> None:
    """Changes what the store of the parameters says of `wte`."""
    base = {"driver": "file", "path": f"{step}/params/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    said = json.loads(store.read("wte/.zarray").result().value)
    store.write("wte/.zarray", json.dumps(said | changes).encode()).result()
    seal(step)


def edit_index(step: Path, **changes) -> None:
    path = step / "params" / "_METADATA"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    seal(step)


def require_refused(step: Path, file: str, reason: str) -> None:
    run = step.parents[1]
    abstract = {"wte": jax.ShapeDtypeStruct((4, 3), np.float32)}
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(errors.Damaged, match=reason) as told:
        verify(run, 1)
    assert (told.value.step, told.value.file) == (1, file)
    for use in (
        lambda: newest_full_step(run),
        lambda: digest_step(run, choose(run, "last")),
        lambda: load_params(run, choose(run, "1"), abstract),
    ):
        with pytest.raises(errors.NoCheckpoint):
            use()
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_sealed_checkpoint_is_taken_as_ours(step):
    declare(step)
    verify(step.parents[1], 1)
    edit_index(step)
    assert choose(step.parents[1], "last") == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shape": [TERABYTE, 3]}, rf"arrays of {12 * TERABYTE + 6} bytes are declared, the files"),
        ({"dtype": f"|V{TERABYTE >> 10}"}, "wte|declared|invalid|large"),
        ({"shape": [4, 3], "chunks": [TERABYTE, 3]}, r"larger chunks, of \[1099511627776, 3\]"),
        ({"compressor": {"id": "bz2", "level": 9}}, "wte is compressed"),
        ({"filters": [{"id": "zlib"}]}, "wte is compressed"),
        ({"shape": [-1, 3]}, r"wte has the shape \[-1, 3\]"),
        ({"shape": [4.0, 3]}, r"wte has the shape \[4.0, 3\]"),
        ({"shape": [True, 3]}, r"wte has the shape \[True, 3\]"),
        ({"shape": [4]}, r"wte has the shape \[4\] in chunks of \[4, 3\]"),
    ],
)
def test_arrays_that_would_need_more_than_their_files_are_refused(changes, reason, step):
    declare(step, **changes)
    require_refused(step, "params/_METADATA", reason)


STRING = {
    "key_metadata": [{"key": "wte"}],
    "value_metadata": {"value_type": "string", "skip_deserialize": False},
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"use_zarr3": True}, "another store than OCDBT of Zarr 2"),
        ({"use_ocdbt": 1}, "another store than OCDBT of Zarr 2"),
        ({"tree_metadata": {}}, "hold different arrays"),
        ({"tree_metadata": []}, "values"),
        ({"tree_metadata": {"wte": {}}}, "value_metadata"),
        ({"tree_metadata": {"wte": STRING}}, "a value of type 'string' is declared"),
    ],
)
def test_an_index_of_another_form_is_refused(changes, reason, step):
    edit_index(step, **changes)
    require_refused(step, "params/_METADATA", reason)


def test_an_index_that_is_nested_without_end_is_refused(step):
    (step / "params/_METADATA").write_text("[" * 200_000)
    seal(step)
    require_refused(step, "params/_METADATA", "nested too deeply|Expecting value")


@pytest.mark.parametrize(
    "name", ["params/_METADATA", "rest/_sharding", "rest/array_metadatas/process_0"]
)
def test_a_description_of_a_hundred_megabytes_is_not_parsed(name, step):
    with open(step / name, "ab") as file:
        file.truncate(50 << 20)
    seal(step)
    require_refused(step, name, "bytes, at most 16777216 are read")


def test_a_link_out_of_the_run_is_not_followed_though_its_target_is_sealed(step, tmp_path):
    shutil.move(step / "params", tmp_path / "elsewhere")
    (step / "params").symlink_to(tmp_path / "elsewhere")
    require_refused(step, "params", "a link or special file is in its place")


def test_a_sidecar_says_nothing_of_machine_user_and_environment(
    open_run, save, monkeypatch, tmp_path
):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/home/somebody --xla_cpu_enable_fast_math=false")
    monkeypatch.setenv("NPROC", "3")
    monkeypatch.setenv("HF_TOKEN", "canary")
    with open_run() as checkpoints:
        save(checkpoints, 1)
    text = (tmp_path / "checkpoints/1/metadata.json").read_text()
    environment = json.loads(text)["environment"]
    assert environment["xla_flags"] == "--xla_dump_to --xla_cpu_enable_fast_math=false"
    assert environment["nproc"] == 3 and environment["backend"] == jax.default_backend()
    for path in (tmp_path / "checkpoints/1").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in (str(tmp_path), "somebody", "canary", "/home", "/tmp"):
                assert secret.encode() not in content, (path, secret)
