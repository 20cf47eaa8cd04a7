"""A place in which nothing may be touched."""

import jax
import pytest


@pytest.fixture
def untouched(monkeypatch, tmp_path):
    """A working directory that stays empty, on a machine whose devices nobody asks for."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a device was asked for")

    for name in ("devices", "local_devices", "device_count", "default_backend"):
        monkeypatch.setattr(jax, name, refuse)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
