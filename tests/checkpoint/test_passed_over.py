"""What becomes of a run whose checkpoints are damaged: the next good one, or a refusal."""

import os

import jax
import pytest

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import (
    choose,
    list_steps,
    load_params,
    newest_full_step,
    read_sidecars,
    set_aside,
)
from tests.checkpoint.conftest import BAD, GOOD, open_checkpoints


def test_without_a_good_one_nothing_is_chosen_renamed_or_taken_for_a_new_run(run, warnings):
    for step in (GOOD, BAD):
        (run / f"checkpoints/{step}/data/metadata").unlink()
    for find in (
        lambda: newest_full_step(run, lambda error: pytest.fail("nothing to go on from")),
        lambda: choose(run, "last"),
        lambda: choose(run, "best", full=True),
    ):
        with pytest.raises(errors.NoCheckpoint, match=r"4 is damaged \(data/metadata: it is miss"):
            find()
    assert list_steps(run) == [GOOD, BAD] and warnings == []


def test_what_was_set_aside_is_kept_and_never_taken_for_a_new_run(run):
    root = run / "checkpoints"
    (root / f"{BAD}/data/metadata").unlink()
    damaged: list[errors.Damaged] = []
    assert newest_full_step(run, damaged.append) == GOOD
    assert [set_aside(run, each.step).name for each in damaged] == [f"{BAD}.bad"]
    assert list_steps(run) == [GOOD] and newest_full_step(run) == GOOD
    assert (root / f"{BAD}.bad/metadata.json").exists()
    set_aside(run, GOOD)
    with pytest.raises(errors.NoCheckpoint, match=r"2\.bad, 4\.bad was set aside"):
        newest_full_step(run)


def test_a_step_that_was_set_aside_is_saved_again_beside_it(run, save, state_of, bits):
    root = run / "checkpoints"
    for aside in (f"{BAD}.bad", f"{BAD}.bad1"):
        (root / f"{BAD}/metadata.json").unlink()
        assert set_aside(run, BAD).name == aside
        with open_checkpoints(run) as checkpoints:
            save(checkpoints, BAD)
        assert newest_full_step(run) == BAD
        params = load_params(run, BAD, jax.eval_shape(lambda: state_of(0).params))
        assert bits(params) == bits(state_of(BAD).params)
    assert sorted(os.listdir(root)) == ["2", "4", "4.bad", "4.bad1"]


def test_a_milestone_is_no_reason_not_to_go_on_and_is_verified_where_it_is_used(
    run, save, warnings
):
    with open_checkpoints(run) as checkpoints:
        save(checkpoints, 5, kind="milestone")
    (run / "checkpoints/5/params/manifest.ocdbt").unlink()
    assert newest_full_step(run) == BAD
    assert warnings == []
    with pytest.raises(errors.Damaged):
        choose(run, "5")
    assert choose(run, "last") == BAD
    assert len(warnings) == 1


def test_a_damaged_sidecar_counts_for_nothing_when_old_saves_are_pruned(run, save):
    (run / f"checkpoints/{BAD}/metadata.json").write_text("{}")
    with open_checkpoints(run, keep=2) as checkpoints:
        save(checkpoints, 6)
    assert [one.step for one in read_sidecars(run)] == [GOOD, 6]
    assert list_steps(run) == [GOOD, BAD, 6], "what is damaged is not removed either"
