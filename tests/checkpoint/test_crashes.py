"""A checkpoint is listed when it is whole; a failed or killed save harms no other, and is told."""

import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import jax
import pytest

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import items, list_steps, newest_full_step

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def broken_writing(monkeypatch):
    """Writing leaves half a checkpoint and fails, as on a full disk."""

    def fail(path, trees, data):
        path.mkdir()
        (path / "half").write_text("written")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(items, "write", fail)
    return monkeypatch


def test_names_that_only_look_like_steps_are_ignored_and_kept(open_run, save, tmp_path):
    with open_run() as checkpoints:
        save(checkpoints, 5)
    root = tmp_path / "checkpoints"
    for name in ("200.bak", "0700", "1e3", "-1", "+2", "٣", "best", "5 ", "300"):
        (root / name).mkdir()
        if name != "300":  # a step's name, but without a sidecar it is not complete
            (root / name / "metadata.json").write_bytes((root / "5/metadata.json").read_bytes())
    (root / "6").write_text("a file")
    (root / "7").symlink_to(root / "5")
    before = set(root.iterdir())
    assert list_steps(tmp_path) == [5]
    with open_run(keep=1) as checkpoints:
        save(checkpoints, 8)
    assert list_steps(tmp_path) == [8]
    assert before - set(root.iterdir()) == {root / "5"}


@pytest.mark.parametrize("obstacle", ["file", "link", "folder"])
def test_what_bears_the_name_of_a_step_is_put_aside(obstacle, open_run, save, tmp_path):
    path = tmp_path / "checkpoints" / "3"
    for _ in range(2):
        path.parent.mkdir(exist_ok=True)
        if obstacle == "folder":
            path.mkdir()
            (path / "note").write_text("mine")
        elif obstacle == "link":
            path.symlink_to("note")
        else:
            path.write_text("mine")
        with open_run() as checkpoints:
            save(checkpoints, 3)
        assert list_steps(tmp_path) == [3]
        path.rename(path.with_name("away"))
        assert list_steps(tmp_path) == []
        for file in sorted(path.with_name("away").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        path.with_name("away").rmdir()
    assert sorted(os.listdir(path.parent)) == ["3.bad", "3.bad1"]


def test_what_a_killed_process_saved_ahead_of_this_one_is_taken_off_the_list(
    open_run, save, tmp_path
):
    with open_run() as checkpoints:
        save(checkpoints, 2)
        save(checkpoints, 5, kind="milestone", metrics={"val/loss": 0.1})
    assert newest_full_step(tmp_path) == 2, "so the next process goes on from there"
    with open_run() as checkpoints:
        save(checkpoints, 3)
    assert list_steps(tmp_path) == [2, 3]


def test_folders_of_steps_without_a_usable_one_are_not_taken_for_a_new_run(
    open_run, save, tmp_path
):
    with open_run() as checkpoints:
        save(checkpoints, 1, kind="milestone")
        assert newest_full_step(tmp_path) is None, "as in a run that was killed early"
        save(checkpoints, 2)
        save(checkpoints, 4)
    for step, newest in ((4, 2), (2, None)):
        (tmp_path / f"checkpoints/{step}/metadata.json").unlink()
        if newest is None:
            with pytest.raises(errors.NoCheckpoint, match=r"4 is damaged \(metadata\.json: ENOENT"):
                newest_full_step(tmp_path)
        else:
            assert newest_full_step(tmp_path) == newest


def test_a_step_saved_again_is_replaced(open_run, save, state_of, bits, tmp_path):
    with open_run() as checkpoints:
        save(checkpoints, 3, kind="milestone")
        save(checkpoints, 3, state=state_of(9))
    state, _ = open_run().restore(3, jax.eval_shape(lambda: state_of(0)))
    assert bits(state) == bits(state_of(9))
    assert os.listdir(tmp_path / "checkpoints") == ["3"]


def test_readers_leave_leftovers_alone_and_the_trainer_removes_them(open_run, save, tmp_path):
    root = tmp_path / "checkpoints"
    for name in ("tmp.4", "tmp.4.orbax-checkpoint-tmp", "tmp.2.withdrawn"):
        (root / name / "params").mkdir(parents=True)
    (root / "tmp.link").symlink_to(tmp_path)
    assert list_steps(tmp_path) == []
    assert len(os.listdir(root)) == 4
    with open_run() as checkpoints:
        assert os.listdir(root) == []
        (root / "tmp.4").mkdir()
        save(checkpoints, 4)
    assert os.listdir(root) == ["4"]
    assert tmp_path.is_dir()


def test_a_failed_save_is_raised_by_the_next_save(broken_writing, open_run, save, tmp_path):
    with open_run() as checkpoints:
        save(checkpoints, 1)
        with pytest.raises(
            errors.NanogptError, match=r"checkpoint 1 .*No space left.*tmp\.1"
        ) as told:
            save(checkpoints, 2)
        assert errors.exit_code_of(told.value) == 1
        broken_writing.undo()
        assert os.listdir(tmp_path / "checkpoints") == []  # the room is free again
        save(checkpoints, 3)
    assert list_steps(tmp_path) == [3]


def test_a_failed_save_is_raised_by_a_check_and_only_once(broken_writing, open_run, save):
    with open_run() as checkpoints:
        checkpoints.check()
        save(checkpoints, 1)
        checkpoints._under_way[1].exception()
        with pytest.raises(errors.NanogptError, match="checkpoint 1"):
            checkpoints.check()
        checkpoints.check()


def test_a_failed_last_save_is_raised_at_the_end(broken_writing, open_run, save):
    with pytest.raises(errors.NanogptError, match="checkpoint 1"), open_run() as checkpoints:
        save(checkpoints, 1)


def test_a_failed_save_is_told_together_with_the_error_of_the_run(broken_writing, open_run, save):
    with pytest.raises(errors.NanogptError, match="checkpoint 1") as told:
        with open_run() as checkpoints:
            save(checkpoints, 1)
            raise errors.NonFinite("the loss is nan at step 2")
    text = "".join(traceback.format_exception(told.value))
    assert "the loss is nan at step 2" in text
    assert "No space left on device" in text


def test_the_error_of_the_run_passes_when_the_save_succeeds(open_run, save, tmp_path):
    with pytest.raises(errors.NonFinite), open_run() as checkpoints:
        save(checkpoints, 1)
        raise errors.NonFinite("the loss is nan at step 2")
    assert list_steps(tmp_path) == [1]


def test_a_folder_that_became_a_file_is_told(open_run, save, tmp_path):
    with open_run() as checkpoints:
        (tmp_path / "checkpoints").write_text("")
        save(checkpoints, 1)
        with pytest.raises(errors.NanogptError, match=r"File exists.*checkpoints"):
            save(checkpoints, 2)


def test_save_does_not_wait_for_the_writing(open_run, save, monkeypatch, tmp_path):
    write, go_on = items.write, threading.Event()
    monkeypatch.setattr(items, "write", lambda *arguments: go_on.wait(10) and write(*arguments))
    with open_run() as checkpoints:
        save(checkpoints, 1)
        checkpoints.check()
        assert list_steps(tmp_path) == []
        go_on.set()
    assert list_steps(tmp_path) == [1]


def test_kill_9_in_the_middle_of_a_save_leaves_the_earlier_ones(
    open_run, save, state_of, bits, tmp_path
):
    child = subprocess.Popen(
        [sys.executable, "-c", STOP_IN_THE_THIRD_SAVE, str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written but not listed\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert list_steps(tmp_path) == [1, 2]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["1", "2", "tmp.3"]
    with open_run() as checkpoints:
        for step in (1, 2):
            state, data = checkpoints.restore(step, jax.eval_shape(lambda: state_of(0)))
            assert state.params["wte"][0, 0] == step and data == {"batch": step}
        save(checkpoints, 3)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["1", "2", "3"]


STOP_IN_THE_THIRD_SAVE = """
import sys, threading
from pathlib import Path
import jax, jax.numpy as jnp, optax
from nanogpt_jax.checkpoint import Checkpoints, items
from nanogpt_jax.interface import ModelShape
from nanogpt_jax.state import TrainState

write = items.write
def stop_in_the_third(path, trees, data):
    write(path, trees, data)
    if path.name == "tmp.3":
        print("written but not listed", flush=True)
        threading.Event().wait(60)
items.write = stop_in_the_third

shape = ModelShape("gpt", 65, 2, 2, 2, 8, 16)
run = Path(sys.argv[1])
with Checkpoints(run, keep=3, milestone_steps=(), model=shape, tokenizer_sha256="") as checkpoints:
    for step in (1, 2, 3):
        params = {"wte": jnp.full((4, 3), step, jnp.float32),
                  "blocks": {"scale": jnp.zeros(3, jnp.bfloat16)}}
        state = TrainState(
            jnp.int32(step), params, optax.adamw(1e-3).init(params), jax.random.key(0)
        )
        checkpoints.save(step, state, {"batch": step}, kind="periodic", tokens_seen=0, metrics={})
"""
