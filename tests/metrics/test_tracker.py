"""W&B and trackio, played by a module that records what it is told."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax.errors import MissingExtra
from nanogpt_jax.metrics import open_tracker


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_names_its_extra(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingExtra, match=rf"log\.tracker={kind} needs the extra \[{kind}\]"):
        open_tracker(kind, tmp_path)


class FakeRun:
    """What W&B and trackio have in common, with a record of every call."""

    def __init__(self, calls: list[tuple[Any, ...]]):
        self.calls, self.config = calls, self

    def update(self, values: Any, **options: Any) -> None:
        self.calls.append(("config", dict(values)))

    def define_metric(self, name: str, step_metric: str) -> None:
        self.calls.append(("axis", name, step_metric))

    def log(self, values: Any, step: int | None = None) -> None:
        self.calls.append(("log", values, step))

    def finish(self) -> None:
        print("finished")
        self.calls.append(("finish",))


def a_fake_package(kind: str, calls: list[tuple[Any, ...]]) -> types.ModuleType:
    package = types.ModuleType(kind)
    run = FakeRun(calls)

    def init(**options: Any) -> FakeRun:
        calls.append(("init", options))
        return run

    vars(package).update(
        init=init,
        finish=run.finish,
        Html=lambda data, data_is_not_path: ("html", data),
        Markdown=lambda text: ("markdown", text),
    )
    return package


def test_wandb_gets_config_scalars_and_texts_and_its_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setitem(sys.modules, "wandb", a_fake_package("wandb", calls))
    for _ in range(2):
        writer = open_tracker("wandb", tmp_path)
        writer.config({"model.n_layer": 4})
        writer.scalars(7, {"train/loss": 1.0})
        writer.text(7, "sample", "<b>")
        writer.close()
    assert calls[1:6] == [
        ("axis", "*", "step"),
        ("config", {"model.n_layer": 4}),
        ("log", {"train/loss": 1.0, "step": 7}, None),
        ("log", {"sample": ("html", "<pre>&lt;b&gt;</pre>"), "step": 7}, None),
        ("finish",),
    ]
    assert calls[0][1]["resume"] == "allow"
    assert calls[0] == calls[6], "the same run"


def test_trackio_gets_the_same_and_leaves_stdout_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setitem(sys.modules, "trackio", a_fake_package("trackio", calls))
    writer = open_tracker("trackio", tmp_path)
    writer.config({"model.n_layer": 4})
    writer.scalars(7, {"train/loss": 1.0})
    writer.text(7, "sample", "a\nb")
    writer.close()
    assert calls[0][1]["resume"] == "allow"
    assert calls[1:] == [
        ("config", {"model.n_layer": 4}),
        ("log", {"train/loss": 1.0}, 7),
        ("log", {"sample": ("markdown", "~~~\na\nb\n~~~")}, 7),
        ("finish",),
    ]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "finished\n")


def test_two_runs_of_the_same_name_are_two_runs_for_a_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setitem(sys.modules, "wandb", a_fake_package("wandb", calls))
    for parent in ("here", "there"):
        (tmp_path / parent / "run").mkdir(parents=True)
        open_tracker("wandb", tmp_path / parent / "run").close()
    first, second = (call[1] for call in calls if call[0] == "init")
    assert first["name"] == second["name"] == "run"
    assert first["id"] != second["id"]
