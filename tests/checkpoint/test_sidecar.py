"""A sidecar reads back as it was written; anything else is refused with a reason."""

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
from nanogpt_jax.checkpoint.sidecar import as_json, describe, parse
from nanogpt_jax.interface import ModelShape

SHAPE = ModelShape("gpt", 65, 2, 2, 2, 8, 16)
GOOD = describe(
    3, "final", interrupted=True, tokens_seen=9, metrics={"val/loss": 1}, model=SHAPE,
    tokenizer_sha256="ab",
)  # fmt: skip


@given(
    st.builds(
        describe,
        st.integers(0),
        st.sampled_from(["periodic", "milestone", "final"]),
        interrupted=st.booleans(),
        tokens_seen=st.integers(0),
        metrics=st.dictionaries(st.text(), st.floats()),
        model=st.just(SHAPE),
        tokenizer_sha256=st.text(),
    )
)
def test_a_sidecar_reads_back_as_it_was_written(sidecar: Sidecar):
    assert parse(json.dumps(as_json(sidecar), allow_nan=False)) == sidecar


def test_the_time_of_creation_is_utc_in_the_form_of_rfc_3339():
    date, time = GOOD.created.split("T")
    assert len(date) == 10 and len(time) == 9 and time.endswith("Z")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 1 is required"),
        ({"step": True}, "step is True, int is required"),
        ({"kind": "other"}, "kind is 'other'"),
        ({"items": ["params", "../../etc"]}, "items is"),
        ({"metrics": {"val/loss": float("nan")}}, "val/loss"),
        ({"model": {"name": "gpt"}}, "d_model is missing"),
        ({"model": SHAPE._asdict() | {"n_layer": "12"}}, "n_layer is '12'"),
        ({"import": "os"}, "import is not known"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        parse(json.dumps(as_json(GOOD) | change))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '"version"'])
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
        with pytest.raises(errors.NoCheckpoint, match=r"3/metadata\.json is damaged"):
            read_sidecars(tmp_path)
        with pytest.raises(errors.NoCheckpoint, match="is damaged"):
            newest_full_step(tmp_path)
    path.write_bytes(b"\xff" + good.encode())
    with pytest.raises(errors.NoCheckpoint, match=r"3/metadata\.json is damaged"):
        read_sidecar(tmp_path, 3)
    path.write_text(good)
    assert read_sidecar(tmp_path, 3) == GOOD


def test_a_step_that_is_not_there_is_told_with_those_that_are(tmp_path):
    with pytest.raises(errors.NoCheckpoint, match="--step=4: found none"):
        read_sidecar(tmp_path, 4)
