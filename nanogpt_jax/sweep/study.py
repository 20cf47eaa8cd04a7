"""The memory and the brain of a sweep: which trial comes next, and what those before have found.

Optuna is both (Akiba et al. 2019, arXiv:1907.10902). It is kept in a journal beside the trials, or
in a database where several controllers share one sweep. A trial is known by its number, and has a
folder of that name; one that was under way when its controller was killed is gone on with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from nanogpt_jax.errors import Mismatch
from nanogpt_jax.sweep.rounds import confirmations
from nanogpt_jax.sweep.space import Point
from nanogpt_jax.sweep.spec import SEED, Ended, Sweep, Trial

JOURNAL = "study.journal"
POINT = "point"  # the user attribute that holds what a trial changes


class Study:
    """The trials of one sweep, kept in `folder` or in the database at `url`."""

    def __init__(self, sweep: Sweep, folder: Path, url: str = ""):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep = sweep
        self._study = optuna.create_study(
            study_name=folder.name,
            storage=_storage(folder, url),
            direction=sweep.direction,
            sampler=_sampler(sweep),
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        self._require_same()
        self._live: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}
        for each in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if POINT not in each.user_attrs:
                continue  # its controller was killed before it chose, or is about to choose
            self._live[each.number] = optuna.Trial(self._study, each._trial_id)
            self._reported[each.number] = set(each.intermediate_values)

    def under_way(self) -> list[Trial]:
        """The trials that have begun and not ended, in the order of their numbers."""
        return [Trial(number, dict(trial.user_attrs[POINT])) for number, trial in self._ordered()]

    def next(self) -> Trial | None:
        """A trial that nobody has begun; None when all have."""
        every = self._study.get_trials(deepcopy=False)
        begun = [each.user_attrs[POINT] for each in every if POINT in each.user_attrs]
        if self._sweep.sampler == "grid":
            # Told to Optuna as an attribute alone: its parameters never take another choice in, and
            # who finds the best at the edge of a grid adds values and goes on.
            point = next((point for point in self._points() if point not in begun), None)
            if point is None:
                return None
            asked = self._study.ask()
        elif len(begun) < self._sweep.trials:
            asked = self._study.ask()
            point = self._sweep.space.suggest(asked)
        else:
            return None
        asked.set_user_attr(POINT, point)
        self._live[asked.number] = asked
        return Trial(asked.number, point)

    def _points(self) -> Iterator[Point]:
        """The points of a grid, and those of its second round once the first has ended."""
        yield from self._sweep.space.points()
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if self._sweep.fresh_seeds and all(
            SEED in each.user_attrs.get(POINT, {}) for each in running
        ):
            yield from confirmations(self._sweep, self.ended())

    def report(self, number: int, step: int, value: float) -> bool:
        """Takes the objective at an evaluation; whether the trial is not worth going on with."""
        reported = self._reported.setdefault(number, set())
        if not math.isfinite(value) or step in reported:  # by who was controller before
            return False
        reported.add(step)
        self._live[number].report(value, step)
        return self._live[number].should_prune()

    def tell(self, number: int, value: float | None, *, pruned: bool = False) -> None:
        """Takes what a trial has come to; None: it failed."""
        state = TrialState.COMPLETE
        if value is None or not math.isfinite(value):
            state, value = TrialState.FAIL, None
        if pruned:
            state, value = TrialState.PRUNED, None
        self._study.tell(self._live.pop(number), value, state=state)

    def ended(self) -> list[Ended]:
        """All trials that have ended."""
        done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return [
            Ended(
                Trial(each.number, dict(each.user_attrs[POINT])),
                each.value if each.state == TrialState.COMPLETE else _last_report(each),
                each.state == TrialState.PRUNED,
            )
            for each in self._study.get_trials(deepcopy=False, states=done)
            if POINT in each.user_attrs
        ]

    def _ordered(self) -> Iterator[tuple[int, optuna.Trial]]:
        yield from sorted(self._live.items())

    def _require_same(self) -> None:
        """A sweep of another meaning is not mixed with what a folder holds."""
        said = {
            "config": self._sweep.config,
            "addresses": self._sweep.addresses(),
            "objective": self._sweep.objective,
            "direction": self._sweep.direction,
            "fixed": dict(self._sweep.fixed),
        }
        if self._sweep.sampler != "grid":  # what is drawn depends on what was drawn from
            said["space"] = repr(self._sweep.space)
        held = self._study.user_attrs.get("sweep", said)
        if wrong := [name for name in said if held.get(name) != said[name]]:
            told = "; ".join(f"{name} was {held.get(name)}, is {said[name]}" for name in wrong)
            raise Mismatch(f"the folder holds another sweep: {told}; choose another --workdir")
        self._study.set_user_attr("sweep", said)


def _last_report(trial: FrozenTrial) -> float | None:
    values = trial.intermediate_values
    return values[max(values)] if values else None


def _storage(folder: Path, url: str) -> BaseStorage:
    if url:
        return RDBStorage(url)
    folder.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))


def _sampler(sweep: Sweep) -> optuna.samplers.BaseSampler:
    if sweep.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=sweep.seed)
    return optuna.samplers.RandomSampler(seed=sweep.seed)


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    if sweep.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.MedianPruner() if sweep.pruner == "median" else optuna.pruners.NopPruner()
