"""D1, its half about files: damaged data is made again or named, and never trained on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nanogpt_jax import errors
from tests.reliability.conftest import Proven
from tests.reliability.trainer import told
from tests.runs import small_run

CHANGES = {"train.steps": 3, "eval.every_steps": 0, "checkpoint.every_steps": 0}
RECORDS = 10_000


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def exceed_the_vocabulary(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2] + b"\xff\xff")


@pytest.mark.parametrize("harm", [Path.unlink, empty, cut, exceed_the_vocabulary])
def test_damaged_tokens_are_named_and_made_again_and_the_run_is_fed_the_same(
    harm: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    proven: Proven,
) -> None:
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))
    small_run(tmp_path / "before", CHANGES)
    (shard,) = (tmp_path / "cache").glob("tokens/*/train/00000.ids")
    content = shard.read_bytes()
    harm(shard)
    caplog.clear()
    small_run(tmp_path / "after", CHANGES)
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1 and str(shard) in warnings[0]
    assert shard.read_bytes() == content
    fed = told(tmp_path / "before", "batch_sha256")
    assert len(set(fed.values())) == 3 and told(tmp_path / "after", "batch_sha256") == fed
    proven("D1", 0, "wrong batches")


def not_utf_8(path: Path) -> str:
    path.write_bytes(b'"fine"\n' * 6 + b'"\xff"\n')
    return "line 7"


def one_bad_record(path: Path) -> str:
    lines = [json.dumps({"text": f"record {number}"}) for number in range(RECORDS)]
    lines[RECORDS // 2] = lines[RECORDS // 2][:-1]
    path.write_text("\n".join(lines))
    return f"line {RECORDS // 2 + 1}"


def nothing(path: Path) -> str:
    return path.name


def without_text(path: Path) -> str:
    path.touch()
    return path.name


@pytest.mark.parametrize("harm", [not_utf_8, one_bad_record, nothing, without_text])
def test_a_file_that_cannot_be_used_is_named_with_the_record(
    harm: Callable[[Path], str], tmp_path: Path, proven: Proven
) -> None:
    path = tmp_path / "texts.jsonl"
    place = harm(path)
    with pytest.raises(errors.DataError) as error:
        small_run(tmp_path / "run", {**CHANGES, "data.source": f"files:{path}"})
    assert path.name in str(error.value) and place in str(error.value)
    assert not (tmp_path / "run" / "checkpoints").exists()
    proven("D1", 0, "wrong batches")


def test_bad_records_are_skipped_where_that_is_asked_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, proven: Proven
) -> None:
    path = tmp_path / "texts.jsonl"
    one_bad_record(path)
    changes = {**CHANGES, "data.source": f"files:{path}", "data.on_bad_record": "skip"}
    small_run(tmp_path / "run", changes)
    assert f"line {RECORDS // 2 + 1}" in caplog.text
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["3"]
    with pytest.raises(errors.DataError, match=path.name):  # its tokens are not those of the other
        small_run(tmp_path / "none", {**changes, "data.max_bad_records": 0})
    proven("D1", 0, "wrong batches")
