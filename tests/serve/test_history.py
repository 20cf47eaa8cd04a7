"""Curves that are read on while a run writes them, through resumes and torn lines."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from nanogpt_jax.metrics import JsonLines, read_metrics
from nanogpt_jax.serve import history
from nanogpt_jax.serve.history import News, read_news

Known = dict[str, dict[int, float | None]]


def write(run: Path, *steps: int, start: int = 0, name: str = "train/loss", factor: float = 1.0):
    """A process that goes on from `start` and measures `name` at some steps."""
    writer = JsonLines(run / "metrics.jsonl", start_step=start)
    for step in steps:
        writer.scalars(step, {name: factor * step})
    writer.close()


def follow(known: Known, news: News) -> Known:
    """What a reader knows after it has heard the news."""
    rewind = math.inf if news.rewind is None else news.rewind
    kept = {
        name: {step: value for step, value in values.items() if step <= rewind}
        for name, values in known.items()
    }
    for name, values in news.series.items():
        kept.setdefault(name, {}).update(values)
    return {name: dict(sorted(values.items())) for name, values in kept.items() if values}


def test_what_was_read_does_not_come_again(tmp_path: Path):
    write(tmp_path, 1, 2)
    first = read_news(tmp_path, 0)
    assert first == News(2, None, False, {"train/loss": {1: 1.0, 2: 2.0}})
    assert read_news(tmp_path, first.next) == News(2, None, False, {})
    write(tmp_path, 3, start=2)
    later = read_news(tmp_path, first.next)
    assert later == News(4, 2, False, {"train/loss": {3: 3.0}})


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path: Path):
    write(tmp_path, 1, 2)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:end])
        torn = read_news(tmp_path, 0)
        assert (torn.next, torn.series) == (1, {"train/loss": {1: 1.0}})
        assert read_news(tmp_path, 1) == News(1, None, False, {})
    path.write_bytes(whole)
    assert read_news(tmp_path, torn.next).series == {"train/loss": {2: 2.0}}


def test_a_resume_takes_back_what_a_reader_has_and_what_is_in_the_same_answer(tmp_path: Path):
    write(tmp_path, 1, 2, 3, 4, 5)
    known = follow({}, read_news(tmp_path, 0))
    write(tmp_path, 3, 4, start=2, factor=10.0)
    write(tmp_path, 4, start=3, factor=100.0)
    news = read_news(tmp_path, 5)
    assert news.rewind == 2
    assert news.series == {"train/loss": {3: 30.0, 4: 400.0}}
    assert follow(known, news) == {"train/loss": {1: 1.0, 2: 2.0, 3: 30.0, 4: 400.0}}


def test_the_last_word_on_a_step_counts(tmp_path: Path):
    write(tmp_path, 1, 1, 1)
    writer = JsonLines(tmp_path / "metrics.jsonl", start_step=1)
    writer.scalars(1, {"train/loss": 7.0, "val/loss": 3.0})
    writer.event(1, "save", {"params_sha256": "0" * 64})
    writer.updates(1, {"train/lr": 0.5}, {"loss_hex": "0x1.0p+0", "batch_sha256": "0" * 64})
    writer.close()
    series = read_news(tmp_path, 0).series
    assert series == {"train/loss": {1: 7.0}, "val/loss": {1: 3.0}, "train/lr": {1: 0.5}}


def test_what_is_not_finite_is_null(tmp_path: Path):
    writer = JsonLines(tmp_path / "metrics.jsonl")
    writer.scalars(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0})
    writer.close()
    assert read_news(tmp_path, 0).series == {
        "a": {1: None},
        "b": {1: None},
        "c": {1: None},
        "d": {1: 0},
    }


def test_a_shorter_log_is_another_run_and_is_read_from_its_start(tmp_path: Path):
    write(tmp_path, 1, 2, 3)
    known = follow({}, read_news(tmp_path, 0))
    (tmp_path / "metrics.jsonl").unlink()
    write(tmp_path, 1, factor=9.0)
    news = read_news(tmp_path, 3)
    assert news == News(1, -1, False, {"train/loss": {1: 9.0}})
    assert follow(known, news) == {"train/loss": {1: 9.0}}


def test_a_run_without_a_log_has_no_curves(tmp_path: Path):
    assert read_news(tmp_path, 0) == News(0, None, False, {})
    assert read_news(tmp_path, 5) == News(0, -1, False, {})


def test_a_log_that_is_a_link_or_a_pipe_is_none(tmp_path: Path):
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.mkdir()
    write(other, 1)
    (run / "metrics.jsonl").symlink_to(other / "metrics.jsonl")
    assert read_news(run, 0).series == {}
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    assert read_news(run, 0).series == {}


@pytest.mark.parametrize(
    "line",
    [
        *(
            "",
            "null",
            "5",
            "[]",
            "{",
            '{"a": 1}',
            '{"step": "1", "a": 1}',
            '{"step": true, "a": 1}',
        ),
        *('{"step": -1, "a": 1}', f'{{"step": {2**60}, "a": 1}}', '{"step": 1, "a": "text"}'),
        *('{"step": 1, "a": null}', '{"step": 1, "a": {"b": 1}}', f'{{"step": 1, "a": {10**400}}}'),
        *("[" * 100_000, '{"step": 1.0, "a": 1}', '{"step": 1, "event": 5, "a": 1}', "\x00"),
    ],
    ids=lambda line: line[:30] or "nothing",
)
def test_a_line_that_is_none_of_a_runs_is_passed_over(line: str, tmp_path: Path):
    write(tmp_path, 1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
        file.write('{"step": 2, "train/loss": 2.0}\n')
    news = read_news(tmp_path, 0)
    assert news == News(3, None, False, {"train/loss": {1: 1.0, 2: 2.0}})


def test_a_long_log_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, *range(1, 60))
    monkeypatch.setattr(history, "MOST_BYTES", 1000)
    monkeypatch.setattr(history, "BLOCK_BYTES", 64)
    known, after, parts = {}, 0, 0
    while (news := read_news(tmp_path, after)).more or not parts:
        known, after, parts = follow(known, news), news.next, parts + 1
    assert parts > 5
    assert follow(known, news) == {"train/loss": {step: float(step) for step in range(1, 60)}}


def test_a_line_without_an_end_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "MOST_BYTES", 1000)
    write(tmp_path, 1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("x" * 5000)
    assert read_news(tmp_path, 1) == News(1, None, False, {})


def test_whoever_follows_knows_what_the_whole_log_says(tmp_path: Path):
    """However the run is resumed, and whenever the reader looks."""
    random_ = random.Random(7)
    known, after, reached, looks = {}, 0, 0, 0
    for _ in range(60):
        start = random_.randint(max(0, reached - 5), reached)
        reached = start + random_.randint(0, 6)
        write(tmp_path, *range(start + 1, reached + 1), start=start, factor=random_.random())
        if random_.random() < 0.4:
            news = read_news(tmp_path, after)
            known, after, looks = follow(known, news), news.next, looks + 1
    known = follow(known, read_news(tmp_path, after))
    whole = read_metrics(tmp_path / "metrics.jsonl")
    assert looks > 10 and len(whole) > 20
    assert known == {"train/loss": {step: values["train/loss"] for step, values in whole.items()}}
