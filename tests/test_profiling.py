"""A trace of a run's updates: those that were asked for, whole, and nothing without."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import jax
import pytest

from nanogpt_jax.config import Profile
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.profiling import Trace
from tests.runs import lines_of, small_plan, small_run


def steps_in(folder: Path) -> list[int]:
    """The updates that a trace names, from the file that Perfetto opens."""
    (path,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    found = [event for event in events if event.get("name") == "train"]
    return sorted(int(event["args"]["step_num"]) for event in found)


def test_the_updates_that_are_asked_for_are_traced_under_their_numbers(tmp_path: Path) -> None:
    small_run(tmp_path / "run", {"profile.start": 2, "profile.steps": 3, "eval.every_steps": 0})
    assert steps_in(tmp_path / "run/profile") == [2, 3, 4]
    (space,) = (tmp_path / "run/profile").glob("plugins/profile/*/*.xplane.pb")
    assert b"train_step" in space.read_bytes()
    assert [line["step"] for line in lines_of(tmp_path / "run") if "train/loss" in line] == [
        *range(1, 7)
    ]


def test_without_updates_to_trace_the_loop_is_as_it_was(tmp_path: Path) -> None:
    states = range(5)
    with Trace(Profile(), tmp_path / "profile") as trace:
        assert trace.over(states, pytest.fail) is states
    assert not (tmp_path / "profile").exists()


def test_a_trace_waits_for_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = _calls(monkeypatch)
    with Trace(Profile(start=2, steps=2), tmp_path) as trace:
        for state in trace.over(range(5), lambda: said.append("wait")):
            said.append(f"update {state + 1}")
    expected = "update 1, wait, start, update 2, update 3, wait, stop, update 4, update 5"
    assert ", ".join(said) == expected


def test_a_run_that_ends_early_ends_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _calls(monkeypatch)

    def run(states: Iterable[int]) -> None:
        for state in states:
            if state == 2:
                raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Trace(Profile(start=2, steps=9), tmp_path) as trace,
    ):
        run(trace.over(itertools.count(), int))
    assert said == ["start", "stop"]


def _calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: said.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: said.append("stop"))
    return said


def test_a_start_that_is_over_or_never_comes_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match=r"profile.start=7 is beyond train.steps=6.*start earl"):
        small_plan(tmp_path, {"profile.start": 7, "profile.steps": 1})
    small_plan(tmp_path, {"profile.start": 7})  # nobody asks for a trace
    with pytest.raises(ConfigError, match=r"profile.steps=-1 must be at least 0"):
        small_plan(tmp_path, {"profile.steps": -1})
    with Trace(Profile(start=3, steps=1), tmp_path / "profile") as trace:
        list(trace.over(range(4, 6), int))  # a run that goes on at state 4
    assert "nothing was traced: profile.start=3" in caplog.text
    assert not (tmp_path / "profile").exists()
