"""TensorBoard event files, read back record by record."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanogpt_jax.metrics import TensorBoard


def test_scalars_are_in_the_event_file_as_soon_as_they_are_written(
    tmp_path: Path, events_in: Callable[[Path], list[Any]]
) -> None:
    writer = TensorBoard(tmp_path, purge_step=1, wall_clock=lambda: 1000.0)
    writer.scalars(5, {"train/loss": 2.5, "perf/mfu": 0.25})
    first, session, event = events_in(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert (session.step, session.session_log.status) == (1, 1)
    assert (event.step, event.wall_time) == (5, 1000.0)
    points = {value.tag: value.simple_value for value in event.summary.value}
    assert points == {"train/loss": 2.5, "perf/mfu": 0.25}
    writer.close()


def test_a_text_keeps_its_lines_and_its_spaces(
    tmp_path: Path, events_in: Callable[[Path], list[Any]]
) -> None:
    writer = TensorBoard(tmp_path, purge_step=1)
    writer.text(3, "sample", "one\n\n  *two*")
    writer.close()
    (value,) = events_in(tmp_path)[-1].summary.value
    assert value.metadata.plugin_data.plugin_name == "text"
    assert value.tensor.string_val[0].decode() == "    one\n    \n      *two*"


def test_hyperparameters_make_no_second_run(
    tmp_path: Path, events_in: Callable[[Path], list[Any]]
) -> None:
    plugin = importlib.import_module("tensorboardX.proto.plugin_hparams_pb2")
    writer = TensorBoard(tmp_path, purge_step=1)
    writer.config({"model.n_layer": 4, "optim.name": "lion", "model.tie": True, "shape": (1, 2)})
    writer.close()
    assert len(list(tmp_path.iterdir())) == 1
    contents = {
        value.tag: plugin.HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events_in(tmp_path)
        for value in event.summary.value
    }
    found = contents["_hparams_/session_start_info"].session_start_info.hparams
    assert found["model.n_layer"].number_value == 4
    assert found["optim.name"].string_value == "lion"
    assert found["model.tie"].bool_value is True
    assert found["shape"].string_value == "(1, 2)"
    compared = contents["_hparams_/experiment"].experiment.metric_infos
    assert "val/loss" in {info.name.tag for info in compared}


def test_a_run_resumed_at_once_adds_a_file_and_purges_the_steps_it_repeats(
    tmp_path: Path, events_in: Callable[[Path], list[Any]]
) -> None:
    for purge_step in (1, 4):
        writer = TensorBoard(tmp_path, purge_step=purge_step)
        writer.scalars(purge_step, {"train/loss": 1.0})
        writer.close()
    starts = [event.step for event in events_in(tmp_path) if event.HasField("session_log")]
    assert starts == [1, 4]
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_opened_before_the_first_write(tmp_path: Path) -> None:
    TensorBoard(tmp_path / "tensorboard", purge_step=1).close()
    assert not (tmp_path / "tensorboard").exists()
