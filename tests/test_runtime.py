"""Where compiled programs are kept, and that a second process reads them."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt_jax import runtime
from nanogpt_jax.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]
# A command that compiles two programs and counts what it finds kept.
COMMAND = """
import jax
from absl import logging
from nanogpt_jax import cli, runtime

def main() -> None:
    hits = []
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
    for factor in (2, 3):
        jax.jit(lambda x: x * factor)(jax.numpy.ones(3))
    print(hits.count("/jax/compilation_cache/cache_hits"), end=" ")
    print(hits.count("/jax/compilation_cache/cache_misses"), end=" ")
    print(jax.config.jax_compilation_cache_dir, runtime.describe_programs())

cli.run(main, "A test.")
"""


def start(cache: Path, **more: str) -> tuple[int, int, str, str]:
    """Hits, misses, the folder and the line of the log of a process of its own."""
    known = {name: each for name, each in os.environ.items() if "COMPILATION_CACHE" not in name}
    known = {name: each for name, each in known.items() if "PERSISTENT_CACHE" not in name}
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, "--jax_platforms=cpu"],
        env={**known, "NANOGPT_CACHE": str(cache), **more},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    hits, misses, folder, line = ended.stdout.strip().split(" ", 3)
    return int(hits), int(misses), folder, line


def test_a_second_start_compiles_nothing_anew(tmp_path: Path) -> None:
    kept = {"NANOGPT_KEEP_PROGRAMS": "1"}
    folder = tmp_path / "programs" / f"jaxlib-{importlib.metadata.version('jaxlib')}"
    hits, misses, *told = start(tmp_path, **kept)
    assert hits == 0 and misses >= 2
    assert told[0] == str(folder) and "are kept for the next start" in told[1]
    assert start(tmp_path, **kept) == (misses, 0, *told)
    assert len([*folder.glob("*-cache")]) == misses


def test_on_cpu_nothing_is_kept_unless_asked_for(tmp_path: Path) -> None:
    hits, misses, folder, line = start(tmp_path)
    assert (hits, misses, folder) == (0, 0, "None") and "are not kept" in line
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_jax_was_given_stays(tmp_path: Path) -> None:
    own = tmp_path / "own"
    more = {"JAX_COMPILATION_CACHE_DIR": str(own), "NANOGPT_KEEP_PROGRAMS": "0"}
    assert start(tmp_path / "cache", **more)[2] == str(own)
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Those of jax, where it expects an accelerator and was told nothing else."""
    values: dict[str, Any] = {"jax_platforms": "cuda,cpu", "jax_compilation_cache_dir": None}
    config = SimpleNamespace(values=values, update=values.__setitem__)
    monkeypatch.setattr(runtime, "jax", SimpleNamespace(config=config))
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path))
    return values


@pytest.mark.parametrize("wish, kept", [("", True), ("1", True), ("0", False)])
def test_on_an_accelerator_programs_are_kept_unless_refused(
    wish: str,
    kept: bool,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NANOGPT_KEEP_PROGRAMS", wish)
    folder = runtime.keep_programs()
    assert settings["jax_compilation_cache_dir"] == (str(folder) if kept else None)
    assert (folder is not None) == kept
    assert folder is None or folder.parent == tmp_path / "programs"


def test_another_wish_is_an_error(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOGPT_KEEP_PROGRAMS", "yes")
    with pytest.raises(ConfigError, match=r"NANOGPT_KEEP_PROGRAMS='yes': 1 \(keep\), 0"):
        runtime.keep_programs()
    assert settings["jax_compilation_cache_dir"] is None
