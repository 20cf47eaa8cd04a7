"""What a sweep file says: `get_sweep()` returns a `Sweep`."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nanogpt_jax import experiment
from nanogpt_jax.config import Settings
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import Plan
from nanogpt_jax.sweep.space import Point, Space, Value

Sampler = Literal["grid", "random", "tpe"]
Pruner = Literal["none", "hyperband", "median"]

SEED = "seed"


class Trial(NamedTuple):
    """One trial: its number, and what it changes."""

    number: int
    point: Point


class Ended(NamedTuple):
    """A trial that has ended; without a value it failed, and pruned it was stopped early."""

    trial: Trial
    value: float | None
    pruned: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Which config, what is changed in it, what counts as good, and how much is tried.

    `trials` of 0 tries every point once, in order. `objective` is a metric of metrics.jsonl, whose
    last value counts. `fixed` is changed in all trials alike. A trial that is pruned has done
    worse, at an evaluation, than others had at the same step.

    With `fresh_seeds` a grid has a second round. The first finds, for every combination of the
    other fields, the best values of the fields in `tuned`; the second trains each with those on
    seeds that chose nothing, and alone decides which is better.
    """

    config: str
    space: Space
    fixed: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    objective: str = "val/loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    trials: int = 0
    sampler: Sampler = "grid"
    pruner: Pruner = "none"
    seed: int = 0
    tuned: tuple[str, ...] = ()
    fresh_seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if self.tuned or self.fresh_seeds:
            problems += self._problems_of_rounds()
        if self.sampler == "grid" and self.trials:
            problems.append(f"trials={self.trials}: sampler='grid' tries every point; leave it 0")
        if self.sampler != "grid" and self.trials < 1:
            problems.append(f"sampler={self.sampler!r} draws without end: trials=N is required")
        twice = sorted(self.fixed.keys() & set(self.space.addresses()))
        if twice:
            problems.append(f"{', '.join(twice)} both in fixed and in the space: leave one out")
        if problems:
            raise ConfigError(problems)

    def _problems_of_rounds(self) -> list[str]:
        found = []
        if not self.tuned or len(set(self.fresh_seeds)) < max(2, len(self.fresh_seeds)):
            found.append(
                f"tuned={self.tuned} and fresh_seeds={self.fresh_seeds}: a second round needs "
                "fields that the first one tunes, and two or more different seeds"
            )
        if self.sampler != "grid":
            found.append(f"sampler={self.sampler!r} with fresh_seeds: 'grid' is required")
        if unknown := sorted(set(self.tuned) - set(self.space.addresses())):
            found.append(f"tuned has {', '.join(unknown)}, which the space does not: add a choice")
        if SEED in self.space.addresses():
            found.append("the space has seed, and fresh_seeds too: leave it out of the space")
        return found

    def addresses(self) -> list[str]:
        """The fields in which trials may differ, each once."""
        return self.space.addresses() + [SEED] * bool(self.fresh_seeds)

    def changes(self, point: Point) -> list[tuple[str, str]]:
        """What a trial changes in the config, as a command line has it."""
        return [(address, written(value)) for address, value in {**self.fixed, **point}.items()]


def written(value: Value) -> str:
    """A value as a command line has it, exact to the last bit."""
    return repr(value) if isinstance(value, float) else str(value)


def load_sweep(file: Path) -> Sweep:
    """What `get_sweep()` of a Python file returns; ConfigError where there is none."""
    found = importlib.util.spec_from_file_location(f"sweep_{file.stem}", file)
    if not file.is_file() or found is None or found.loader is None:
        raise ConfigError(f"--sweep={file} is no Python file; one with get_sweep() is required")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    if not callable(make := getattr(module, "get_sweep", None)):
        raise ConfigError(f"{file} has no get_sweep(); it is required, and returns a Sweep")
    if not isinstance(sweep := make(), Sweep):
        raise ConfigError(f"get_sweep() of {file} returned {sweep!r:.80}; a Sweep is required")
    return sweep


def load_settings(sweep: Sweep) -> Settings:
    """The config that all trials change; ConfigError where it is one of several runs."""
    if experiment.load_variants(sweep.config) or experiment.load_phases(sweep.config):
        raise ConfigError(
            f"{sweep.config} trains several runs; a trial is one: name a config without "
            "get_variants() and get_phases(), and put what differs into the space"
        )
    return experiment.load_config(sweep.config)


def plan_of(sweep: Sweep, settings: Settings, point: Point) -> Plan:
    """The plan of one trial; ConfigError with all its problems."""
    return experiment.resolve(settings, sweep.changes(point))


def require_sound(sweep: Sweep) -> None:
    """Raises one ConfigError with the problems of every point; of ranges, of one point."""
    settings = load_settings(sweep)
    problems: dict[str, None] = {}
    for point in _samples(sweep):
        try:
            seed = plan_of(sweep, settings, point).seed
            if seed in sweep.fresh_seeds:
                problems[f"fresh_seeds={sweep.fresh_seeds}: the first round has seed {seed}"] = None
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(list(problems))


def _samples(sweep: Sweep) -> list[Point]:
    try:
        return list(sweep.space.points())
    except ConfigError:  # a range: whether its fields exist is seen at any of its points
        return [sweep.space.suggest(_Lowest())]


class _Lowest:
    """Chooses the first of everything."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[0]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return low
