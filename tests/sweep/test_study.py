"""The memory of a sweep, and the controller that keeps trials coming and going."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="found no optuna; the extra sweep has it")

from nanogpt_jax.checkpoint import lock_run
from nanogpt_jax.errors import ConfigError, ExitCode, Mismatch
from nanogpt_jax.sweep import Sweep, choice, loguniform, product
from nanogpt_jax.sweep.controller import MOST_STARTS, Controller
from nanogpt_jax.sweep.launching import Job, Task, workdir_of
from nanogpt_jax.sweep.outcome import arms_of
from nanogpt_jax.sweep.rounds import judging
from nanogpt_jax.sweep.study import Study

GRID = product(choice("optimizer.learning_rate", 0.001, 0.01), choice("seed", 0, 1))


def sweep_of(**options: Any) -> Sweep:
    return Sweep(**{"config": "configs/tiny.py", "space": GRID, **options})


def test_a_grid_is_tried_once_in_order_whoever_asks(tmp_path: Path) -> None:
    first = Study(sweep_of(), tmp_path)
    points = [first.next(), first.next()]
    second = Study(sweep_of(), tmp_path)
    points += [second.next(), second.next()]
    assert second.next() is None
    assert [each.point for each in points if each] == list(GRID.points())
    assert [each.number for each in points if each] == [0, 1, 2, 3]


def test_what_was_under_way_is_known_to_who_comes_after(tmp_path: Path) -> None:
    study = Study(sweep_of(), tmp_path)
    begun = [study.next(), study.next()]
    study.tell(0, 1.5)
    after = Study(sweep_of(), tmp_path)
    assert after.under_way() == begun[1:]
    after.tell(1, None)
    assert [(each.trial.number, each.value) for each in after.ended()] == [(0, 1.5), (1, None)]


def test_what_was_reported_before_is_reported_once(tmp_path: Path) -> None:
    study = Study(sweep_of(pruner="median"), tmp_path)
    study.next()
    assert not study.report(0, 10, 1.5)
    after = Study(sweep_of(pruner="median"), tmp_path)
    assert not after.report(0, 10, 1.5) and not after.report(0, 20, float("nan"))


def test_a_folder_of_another_sweep_is_refused_with_what_differs(tmp_path: Path) -> None:
    Study(sweep_of(), tmp_path)
    with pytest.raises(Mismatch, match="objective was val/loss, is train/loss"):
        Study(sweep_of(objective="train/loss"), tmp_path)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_what_is_drawn_from_another_space_is_refused(sampler: str, tmp_path: Path) -> None:
    drawn = {"sampler": sampler, "trials": 3}
    Study(sweep_of(space=choice("seed", 0, 1), **drawn), tmp_path)
    with pytest.raises(Mismatch, match=r"space was .*0, 1.*, is .*0, 1, 2.* choose another"):
        Study(sweep_of(space=choice("seed", 0, 1, 2), **drawn), tmp_path)


def test_a_trial_that_was_asked_for_and_never_chosen_is_none(tmp_path: Path) -> None:
    study = Study(sweep_of(), tmp_path)
    study.next()
    study._study.ask()  # its controller is killed here
    after = Study(sweep_of(), tmp_path)
    assert [each.number for each in after.under_way()] == [0] and after.ended() == []
    points = [trial.point for trial in iter(after.next, None)]
    assert points == list(GRID.points())[1:]


def test_tpe_finds_a_valley_sooner_than_chance(tmp_path: Path) -> None:
    def best(sampler: str) -> float:
        space = loguniform("optimizer.learning_rate", 1e-6, 1.0)
        study = Study(sweep_of(space=space, sampler=sampler, trials=40, seed=3), tmp_path / sampler)
        found = []
        while (trial := study.next()) is not None:
            rate = trial.point["optimizer.learning_rate"]
            assert isinstance(rate, float)
            found.append(abs(rate - 0.003) / 0.003)
            study.tell(trial.number, found[-1])
        assert len(found) == 40
        return sum(sorted(found[20:])[:10])

    assert best("tpe") < 0.5 * best("random")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"trials": 3}, "tries every point"),
        ({"sampler": "tpe"}, "trials=N is required"),
        ({"fixed": {"seed": 3}}, "seed both in fixed and in the space"),
    ],
)
def test_a_sweep_that_means_nothing_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        sweep_of(**options)


class Fake:
    """Runs nothing: a task writes its next objective at every look, and ends with a code."""

    width = 2

    def __init__(self, losses: Callable[[int], Iterable[float]], codes: dict[int, list[int]]):
        self._losses, self._codes = losses, codes
        self.started: list[int] = []
        self.stopped: list[int] = []

    def start(self, task: Task) -> Job:
        self.started.append(task.number)
        task.workdir.mkdir(parents=True, exist_ok=True)
        return FakeJob(self, task, iter(self._losses(task.number)))

    def code_of(self, number: int) -> int:
        left = self._codes.get(number, [])
        return left.pop(0) if left else ExitCode.DONE

    def close(self) -> None:
        pass


class FakeJob:
    def __init__(self, launcher: Fake, task: Task, losses: Iterator[float]):
        self._launcher, self._task, self._losses = launcher, task, losses
        self._step, self._stopping = 0, False

    def poll(self) -> int | None:
        if self._stopping:
            return ExitCode.INTERRUPTED
        loss = next(self._losses, None)
        if loss is None:
            return self._launcher.code_of(self._task.number)
        self._step += 10
        with open(self._task.workdir / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": self._step, "val/loss": loss}) + "\n")
        return None

    def stop(self) -> None:
        self._stopping = True
        self._launcher.stopped.append(self._task.number)


def control(
    sweep: Sweep,
    folder: Path,
    launcher: Fake,
    sleep: Callable[[float], None] = lambda _: None,
) -> dict[int, tuple[float | None, bool]]:
    study = Study(sweep, folder)
    Controller(sweep, folder, study, launcher, poll_seconds=0, sleep=sleep).run()
    return {each.trial.number: (each.value, each.pruned) for each in study.ended()}


def test_every_trial_runs_once_and_its_last_value_counts(tmp_path: Path) -> None:
    launcher = Fake(lambda number: [3.0, 2.0 + number], {})
    ended = control(sweep_of(), tmp_path, launcher)
    assert ended == {number: (2.0 + number, False) for number in range(4)}
    assert launcher.started == [0, 1, 2, 3]


def test_a_trial_that_was_interrupted_is_started_again_and_one_that_fails_is_not(
    tmp_path: Path,
) -> None:
    codes = {0: [ExitCode.INTERRUPTED], 2: [ExitCode.NON_FINITE]}
    launcher = Fake(lambda number: [1.0], {number: [*each] for number, each in codes.items()})
    ended = control(sweep_of(), tmp_path, launcher)
    assert sorted(launcher.started) == [0, 0, 1, 2, 3]
    assert ended[0] == (1.0, False) and ended[3] == (1.0, False)
    assert ended[2][1] is False


def test_a_trial_that_the_last_controller_left_running_is_waited_for_however_long(
    tmp_path: Path,
) -> None:
    launcher = Fake(lambda number: [1.0], {2: [int(ExitCode.LOCKED)] * 2 * MOST_STARTS})
    looks = 0
    with contextlib.ExitStack() as theirs:
        theirs.enter_context(lock_run(workdir_of(tmp_path, 2)))

        def look(_: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 50:  # the process of the last controller ends
                assert sorted(launcher.started) == [0, 1, 2, 3]
                theirs.close()

        control(sweep_of(), tmp_path, launcher, look)
    # Then it says that it is locked though it is not: these starts are counted.
    assert looks > 50 and launcher.started.count(2) == 1 + MOST_STARTS


def test_a_trial_that_is_worse_than_half_is_stopped_early(tmp_path: Path) -> None:
    space = choice("seed", *range(12))
    launcher = Fake(lambda number: [1.0 + (number == 11)] * 5, {})
    ended = control(sweep_of(space=space, pruner="median"), tmp_path, launcher)
    assert launcher.stopped == [11]
    assert ended[11] == (2.0, True) and not any(pruned for _, pruned in list(ended.values())[:11])


ROUNDS = product(
    choice("model.activation", "relu2", "gelu"), choice("optimizer.learning_rate", 0.001, 0.01)
)
TUNED: dict[str, Any] = {
    "space": ROUNDS,
    "tuned": ("optimizer.learning_rate",),
    "fresh_seeds": (7, 8),
}


def test_a_second_round_trains_the_best_of_each_arm_on_fresh_seeds(tmp_path: Path) -> None:
    study = Study(sweep_of(**TUNED), tmp_path)
    values: dict[Any, float] = {("relu2", 0.001): 3.0, ("relu2", 0.01): 2.0, ("gelu", 0.001): 1.0}
    for _ in range(4):
        trial = study.next()
        assert trial is not None and "seed" not in trial.point
        key = trial.point["model.activation"], trial.point["optimizer.learning_rate"]
        if key in values:
            study.tell(trial.number, values[key])
    assert study.next() is None  # until the first round has ended
    study.tell(3, None)  # a failure is no winner
    after = Study(sweep_of(**TUNED), tmp_path)  # and whoever comes later goes on
    points = []
    while (trial := after.next()) is not None:
        points.append(trial.point)
    relu2 = {"model.activation": "relu2", "optimizer.learning_rate": 0.01}
    gelu = {"model.activation": "gelu", "optimizer.learning_rate": 0.001}
    assert points == [{**arm, "seed": seed} for seed in (7, 8) for arm in (relu2, gelu)]


def test_a_grid_that_grows_is_gone_on_with_and_another_best_is_judged_anew(tmp_path: Path) -> None:
    def tried(*rates: float) -> list[tuple[float, int | None]]:
        """What is trained; the larger the rate, the better."""
        sweep = sweep_of(**TUNED | {"space": choice("optimizer.learning_rate", *rates)})
        study, found = Study(sweep, tmp_path), []
        while (trial := study.next()) is not None:
            rate = float(trial.point["optimizer.learning_rate"])
            study.tell(trial.number, 1 / rate)
            found.append((rate, trial.point.get("seed")))
        (arm,) = arms_of(sweep, judging(sweep, study.ended()))
        assert arm.point["optimizer.learning_rate"] == max(rates) and set(arm.values) == {7, 8}
        return found

    assert tried(0.1, 0.2) == [(0.1, None), (0.2, None), (0.2, 7), (0.2, 8)]
    assert tried(0.05, 0.1, 0.2, 0.4) == [(0.05, None), (0.4, None), (0.4, 7), (0.4, 8)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fresh_seeds": (1,)}, "two or more different seeds"),
        ({"fresh_seeds": (1, 1)}, "two or more different seeds"),
        ({"tuned": ()}, "fields that the first one tunes"),
        ({"tuned": ("optimizer.b1",)}, "tuned has optimizer.b1, which the space does not"),
        ({"space": GRID}, "leave it out of the space"),
        ({"sampler": "tpe", "trials": 3}, "'grid' is required"),
    ],
)
def test_rounds_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        sweep_of(**{**TUNED, **options})
