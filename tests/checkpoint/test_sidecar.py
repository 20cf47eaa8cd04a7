"""A sidecar reads back as it was written; anything else is refused with a reason."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import (
    Sidecar,
    list_steps,
    newest_full_step,
    read_sidecar,
    read_sidecars,
)
from nanogpt_jax.checkpoint.environment import Environment
from nanogpt_jax.checkpoint.sidecar import LARGEST, as_json, compose, describe, parse, sealed
from nanogpt_jax.interface import ModelShape

SHAPE = ModelShape("gpt", 65, 2, 2, 2, 8, 16)
HERE = Environment("cpu", 8, 2, 8, "--xla_x=true", "0.10.2", "0.10.2", True)
GOOD = describe(
    3, "final", interrupted=True, tokens_seen=9, metrics={"val/loss": 1}, model=SHAPE,
    tokenizer_sha256="ab" * 32, environment=HERE,
)  # fmt: skip


@given(
    st.builds(
        describe,
        st.integers(0, LARGEST),
        st.sampled_from(["periodic", "milestone", "final"]),
        interrupted=st.booleans(),
        tokens_seen=st.integers(0, LARGEST),
        metrics=st.dictionaries(st.text(max_size=99), st.floats()),
        model=st.just(SHAPE),
        tokenizer_sha256=st.sampled_from(["", "0f" * 32]),
        environment=st.just(HERE),
        log_sha256=st.sampled_from(["", "f0" * 32]),
    )
)
def test_a_sidecar_reads_back_as_it_was_written(sidecar: Sidecar):
    assert parse(compose(sidecar)) == sidecar


def test_the_time_of_creation_is_utc_in_the_form_of_rfc_3339():
    date, time = GOOD.created.split("T")
    assert len(date) == 10 and len(time) == 9 and time.endswith("Z")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 1}, "version 1 found, 2 is required"),
        ({"step": True}, "step is True, int is required"),
        ({"step": -1}, "step is -1, at least 0 and at most"),
        ({"tokens_seen": 2**53 + 1}, "tokens_seen is 9.01e.15, at least 0"),
        ({"created": "x" * 5000}, "a short text is required"),
        ({"created": "/home/somebody"}, "and no path"),
        ({"tokenizer_sha256": "AB" * 32}, "a SHA-256 is required"),
        ({"log_sha256": "0"}, "a SHA-256 is required"),
        ({"metrics": dict.fromkeys(map(str, range(2000)), 1.0)}, "2000 entries, at most 1024"),
        ({"metrics": {"x" * 300: 1.0}}, "at most 256 letters"),
        ({"environment": HERE._asdict() | {"user": "me"}}, "user is not known"),
        ({"environment": HERE._asdict() | {"xla_flags": "/tmp"}}, "and no path"),
        ({"files": {"a": {"size_bytes": -1, "sha256": "0" * 64}}}, "size_bytes is -1"),
        ({"files": {"a": {"size_bytes": 1, "sha256": "0" * 63}}}, "64 digits are required"),
        ({"files": {"a": 1}}, "the file a is 1, a JSON object is required"),
        ({"kind": "other"}, "kind is 'other'"),
        ({"items": ["params", "../../etc"]}, "items is"),
        ({"metrics": {"val/loss": "1"}}, "val/loss"),
        ({"model": {"name": "gpt"}}, "d_model is missing"),
        ({"model": SHAPE._asdict() | {"n_layer": "12"}}, "n_layer is '12'"),
        ({"import": "os"}, "import is not known"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        parse(json.dumps(sealed(as_json(GOOD) | change)))


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a/", "a b", "a\n", "\u00e9"],
)
def test_a_file_that_is_named_by_no_path_below_the_folder_is_refused(name):
    files = {name: {"size_bytes": 1, "sha256": "0" * 64}}
    with pytest.raises(ValueError, match="a path below its folder is required"):
        parse(json.dumps(sealed(as_json(GOOD) | {"files": files})))


def test_a_name_that_stands_twice_is_refused():
    text = compose(GOOD)
    assert parse(text) == GOOD
    with pytest.raises(ValueError, match="stands twice"):
        parse(text.replace('"step": 3,', '"step": 3, "step": 3,'))


def test_a_value_that_is_not_what_was_saved_is_refused_though_it_is_plausible():
    with pytest.raises(ValueError, match="not those that were saved"):
        parse(compose(GOOD).replace('"tokens_seen": 9', '"tokens_seen": 8'))


def test_what_would_not_be_read_back_is_not_written():
    with pytest.raises(ValueError, match="step is -1"):
        compose(dataclasses.replace(GOOD, step=-1))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"step": NaN}', "null", "{", "[" * 100_000, '"version"']
)
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError):
        parse(text)


def test_a_damaged_sidecar_is_named_and_never_taken_for_a_missing_one(tmp_path):
    path = tmp_path / "checkpoints" / "3" / "metadata.json"
    path.parent.mkdir(parents=True)
    good = json.dumps(as_json(GOOD))
    for text in ("", good[: len(good) // 2], "\0" * len(good), good.replace("3", "4")):
        path.write_text(text)
        assert list_steps(tmp_path) == [3]
        with pytest.raises(errors.Damaged, match=r"3/metadata\.json is damaged"):
            read_sidecar(tmp_path, 3)
        assert read_sidecars(tmp_path) == []
        with pytest.raises(errors.NoCheckpoint, match="3 is damaged"):
            newest_full_step(tmp_path)
    path.write_bytes(b"\xff" + good.encode())
    with pytest.raises(errors.NoCheckpoint, match=r"3/metadata\.json is damaged"):
        read_sidecar(tmp_path, 3)
    path.write_text(good)
    assert read_sidecar(tmp_path, 3) == GOOD


def test_a_step_that_is_not_there_is_told_with_those_that_are(tmp_path):
    with pytest.raises(errors.NoCheckpoint, match="--step=4: found none"):
        read_sidecar(tmp_path, 4)
