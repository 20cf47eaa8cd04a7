"""A damaged newest checkpoint costs one interval: the run says so, and goes on from the one before.

It trains, so each test is several seconds in a process that has compiled nothing yet.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanogpt_jax import errors, experiment
from nanogpt_jax.checkpoint import digest_step, list_steps, newest_full_step, verify
from nanogpt_jax.errors import ExitCode
from nanogpt_jax.start import Start
from tests.runs import content_of, lines_of, small_run

CHANGES = {"eval.every_steps": 0, "eval.samples": 0}


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_told_set_aside_and_made_again(tmp_path: Path) -> None:
    run, root = tmp_path / "run", tmp_path / "run/checkpoints"
    small_run(run, CHANGES)
    whole = {step: digest_step(run, step) for step in list_steps(run)}
    assert list(whole) == [2, 4, 6]
    flip_a_bit(root / "6/data/metadata")
    (root / "4/metadata.json").unlink()
    assert experiment.load(run).step == 2
    with pytest.raises(errors.Damaged) as told:
        experiment.load(run, "6")
    assert errors.exit_code_of(told.value) == ExitCode.NO_CHECKPOINT
    small_run(run, CHANGES)
    log = (run / "train.log").read_text()
    loud = [line for line in log.splitlines() if "DAMAGED CHECKPOINT" in line]
    assert len(loud) == 2
    assert "6.bad: data/metadata of step 6: its SHA-256" in loud[0]
    assert "4.bad: metadata.json of step 4: ENOENT" in loud[1]
    assert all("going on from step 2" in line for line in loud)
    assert [line["step"] for line in lines_of(run) if line.get("event") == "resume"] == [2]
    assert sorted(os.listdir(root)) == ["2", "4", "4.bad", "6", "6.bad"]
    for step, digests in whole.items():
        verify(run, step)
        assert digest_step(run, step) == digests, "made again, bit by bit"
    small_run(run, CHANGES)
    assert log.count("DAMAGED") == (run / "train.log").read_text().count("DAMAGED")


def test_without_a_good_one_the_run_ends_and_touches_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small_run(run, CHANGES | {"train.steps": 2})
    flip_a_bit(run / "checkpoints/2/rest/_METADATA")
    before = content_of(run)
    for start in (Start(), Start(require_checkpoint=True)):
        with pytest.raises(errors.NoCheckpoint, match=r"2 is damaged.*--fresh") as told:
            small_run(run, CHANGES, start=start)
        assert errors.exit_code_of(told.value) == ExitCode.NO_CHECKPOINT
        assert content_of(run) == before
    small_run(run, CHANGES, start=Start(fresh=True))
    assert newest_full_step(run) == 6
