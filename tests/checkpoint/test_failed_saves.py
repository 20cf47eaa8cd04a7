"""A disk that is full or broken: told with its path and errno, at once, and harms no other save."""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import jax.numpy as jnp
import pytest
from absl import logging

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import commit, inventory, list_steps, verify


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Longer ones cannot be written by this process, neither by Python nor by TensorStore."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large(state_of, step):
    return state_of(step)._replace(params={"w": jnp.arange(1 << 16, dtype=jnp.float32)})


@pytest.mark.parametrize("size_bytes", [0, 10_000])
def test_an_error_of_the_system_in_any_library_is_told_with_path_and_errno(
    size_bytes, open_run, save, state_of, tmp_path
):
    with open_run() as checkpoints:
        # Of the same shapes, so that the second save compiles nothing that a cache would write.
        save(checkpoints, 1, state=large(state_of, 1))
        checkpoints._under_way[1].result()
        second = large(state_of, 2)
        with files_of_at_most(size_bytes):
            save(checkpoints, 2, state=second)
            checkpoints._under_way[1].exception()
        with pytest.raises(errors.NanogptError) as told:
            checkpoints.check()
        assert errors.exit_code_of(told.value) == 1
        message = str(told.value)
        assert f"checkpoint 2 of {tmp_path} failed with EFBIG, File too large (" in message
        assert not size_bytes or f"{tmp_path}/checkpoints/tmp.2" in message
        verify(tmp_path, 1)
        save(checkpoints, 2, state=large(state_of, 2))
    verify(tmp_path, 2)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["1", "2"]


@pytest.mark.parametrize("after", range(0, 40, 6))
def test_a_device_that_fails_to_synchronise_fails_the_save(
    after, open_run, save, monkeypatch, tmp_path
):
    calls = 0
    fsync = os.fsync

    def fail_later(handle):
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail_later)
    with pytest.raises(
        errors.NanogptError, match=r"checkpoint 1 .* with EIO, .*checkpoints/tmp\.1"
    ):
        with open_run() as checkpoints:
            save(checkpoints, 1)
    monkeypatch.undo()
    assert calls == after + 1 and os.listdir(tmp_path / "checkpoints") == []


def test_everything_is_on_the_device_before_it_is_listed(open_run, save, monkeypatch, tmp_path):
    root, order = tmp_path / "checkpoints", []
    fsync, rename = os.fsync, type(tmp_path).rename

    def note_sync(handle):
        order.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def note_rename(path, target):
        order.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(type(tmp_path), "rename", note_rename)
    with open_run() as checkpoints:
        save(checkpoints, 3)
    before, after = order[: (at := order.index("rename"))], order[at + 1 :]
    assert after == [str(root)]
    *inside, sidecar, folder = before
    assert sidecar == f"{root}/tmp.3/metadata.json" and folder == f"{root}/tmp.3"
    saved = {str(path.relative_to(root / "3")) for path in (root / "3").rglob("*")}
    assert {*inside} == {folder, *(f"{folder}/{name}" for name in saved - {"metadata.json"})}
    for place, path in enumerate(inside):
        assert not any(later.startswith(f"{path}/") for later in inside[place:]), "bottom up"


def test_what_cannot_be_removed_is_told_and_in_nobodys_way(open_run, save, monkeypatch, tmp_path):
    root, told = tmp_path / "checkpoints", []
    stubborn = ("tmp.2", "tmp.2.1.orbax-checkpoint-tmp", "tmp.1")
    for name in stubborn:
        (root / name / "params").mkdir(parents=True)
    (root / "tmp.9").write_text("a file")
    rmtree = shutil.rmtree

    def remove(path):
        if path.name in stubborn:
            raise PermissionError(errno.EPERM, "not permitted", str(path))
        rmtree(path)

    monkeypatch.setattr(commit.shutil, "rmtree", remove)
    monkeypatch.setattr(logging, "warning", lambda text, *values: told.append(text % values))
    with open_run(keep=1) as checkpoints:
        save(checkpoints, 1)
        save(checkpoints, 2)
    assert list_steps(tmp_path) == [2]
    assert sorted(os.listdir(root)) == sorted(["2", *stubborn])
    assert any("tmp.2 stays behind: EPERM, Operation not permitted" in one for one in told)


def test_a_cleaning_up_that_fails_does_not_hide_why_the_save_did(
    open_run, save, state_of, monkeypatch, tmp_path
):
    def refuse(path):
        raise PermissionError(errno.EPERM, "not permitted", str(path))

    monkeypatch.setattr(commit.shutil, "rmtree", refuse)
    with pytest.raises(errors.NanogptError, match="with EFBIG"), open_run() as checkpoints:
        with files_of_at_most(10_000):
            save(checkpoints, 1, state=large(state_of, 1))
            checkpoints._under_way[1].exception()


def test_a_failed_pruning_is_told_and_the_save_stands(open_run, save, monkeypatch, tmp_path):
    told = []
    with open_run(keep=1) as checkpoints:
        save(checkpoints, 1)
        checkpoints._under_way[1].result()

        def refuse(*arguments):
            raise OSError(errno.EROFS, "read-only")

        monkeypatch.setattr(commit, "withdraw", refuse)
        monkeypatch.setattr(logging, "warning", lambda text, *values: told.append(text % values))
        save(checkpoints, 2)
    assert list_steps(tmp_path) == [1, 2]
    assert [one for one in told if "not pruned: EROFS" in one]


def test_an_inventory_names_every_file_and_its_content(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(b"abc")
    marks = inventory.take(tmp_path)
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert marks == {"a/b/c": (3, sha256)}
    assert inventory.find_difference(tmp_path, marks, beside="z") is None
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(OSError, match="link"):
        inventory.take(tmp_path)
