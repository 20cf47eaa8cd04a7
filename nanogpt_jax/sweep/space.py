"""What a sweep goes over: a small algebra of choices and ranges of config fields.

    product(
        choice("optimizer.name", "adamw", "muon"),
        loguniform("optimizer.learning_rate", 1e-4, 1e-2),
    )

A point is what one trial changes: address -> value. Nothing here knows a config, an optimizer of
points or a process; whether an address exists is found when a point meets the config.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from nanogpt_jax.errors import ConfigError

Value = bool | int | float | str
Point = dict[str, Value]


class Suggest(Protocol):
    """Whoever chooses values, such as a trial of Optuna."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number from `low` to `high`."""
        ...


class Space(Protocol):
    """A set of points."""

    def points(self) -> Iterator[Point]:
        """All of them, in order; ConfigError where there is no end of them."""
        ...

    def suggest(self, trial: Suggest, place: str = "") -> Point:
        """One of them, as `trial` chooses; `place` tells equal addresses of a chain apart."""
        ...

    def addresses(self) -> list[str]:
        """The fields that points change, each once."""
        ...


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values of a field."""

    address: str
    values: tuple[Value, ...]

    def points(self) -> Iterator[Point]:
        for value in self.values:
            yield {self.address: value}

    def suggest(self, trial: Suggest, place: str = "") -> Point:
        return {self.address: trial.suggest_categorical(place + self.address, self.values)}

    def addresses(self) -> list[str]:
        return [self.address]


@dataclasses.dataclass(frozen=True)
class Range:
    """Any number from `low` to `high`, even in itself or, with `log`, in its logarithm."""

    address: str
    low: float
    high: float
    log: bool

    def points(self) -> Iterator[Point]:
        raise ConfigError(
            f"{self.address} has a range, of which there is no end of points: choose a sampler "
            "that draws (tpe, random), or list values with choice"
        )

    def suggest(self, trial: Suggest, place: str = "") -> Point:
        name = place + self.address
        return {self.address: trial.suggest_float(name, self.low, self.high, log=self.log)}

    def addresses(self) -> list[str]:
        return [self.address]


@dataclasses.dataclass(frozen=True)
class Product:
    """Every point of one space with every point of the others; the last one changes quickest."""

    spaces: tuple[Space, ...]

    def points(self) -> Iterator[Point]:
        for parts in itertools.product(*(list(space.points()) for space in self.spaces)):
            yield _merged(parts)

    def suggest(self, trial: Suggest, place: str = "") -> Point:
        return _merged([space.suggest(trial, place) for space in self.spaces])

    def addresses(self) -> list[str]:
        return _once(address for space in self.spaces for address in space.addresses())


@dataclasses.dataclass(frozen=True)
class Zip:
    """The first points of all spaces together, the second ones together, and so on."""

    spaces: tuple[Space, ...]

    def points(self) -> Iterator[Point]:
        for parts in zip(*(space.points() for space in self.spaces), strict=True):
            yield _merged(parts)

    def suggest(self, trial: Suggest, place: str = "") -> Point:
        points = list(self.points())
        return points[trial.suggest_categorical(place + self._label(), range(len(points)))]

    def addresses(self) -> list[str]:
        return _once(address for space in self.spaces for address in space.addresses())

    def _label(self) -> str:
        return "+".join(self.addresses())


@dataclasses.dataclass(frozen=True)
class Chain:
    """The points of one space, then those of the next."""

    spaces: tuple[Space, ...]

    def points(self) -> Iterator[Point]:
        for space in self.spaces:
            yield from space.points()

    def suggest(self, trial: Suggest, place: str = "") -> Point:
        label = f"{place}chain"
        part = trial.suggest_categorical(label, range(len(self.spaces)))
        return self.spaces[part].suggest(trial, f"{label}{part}/")

    def addresses(self) -> list[str]:
        return _once(address for space in self.spaces for address in space.addresses())


def choice(address: str, *values: Value) -> Choice:
    """One of `values` of a field."""
    if not values or len(set(values)) < len(values):
        raise ConfigError(f"choice({address!r}) has {values}; one or more different are required")
    return Choice(address, values)


def uniform(address: str, low: float, high: float) -> Range:
    """Any number from `low` to `high`."""
    _require_order(address, low, high)
    return Range(address, low, high, log=False)


def loguniform(address: str, low: float, high: float) -> Range:
    """Any number from `low` to `high`, each power of ten as likely as any other."""
    if not low > 0:
        raise ConfigError(f"loguniform({address!r}) begins at {low}; more than 0 is required")
    _require_order(address, low, high)
    return Range(address, low, high, log=True)


def product(*spaces: Space) -> Product:
    """Every combination; no field may be in two of the spaces."""
    _require_apart("product", spaces)
    return Product(spaces)


def zip_(*spaces: Space) -> Zip:
    """Point by point; all spaces must have as many."""
    _require_apart("zip_", spaces)
    if len({len(list(space.points())) for space in spaces}) != 1:
        counts = [len(list(space.points())) for space in spaces]
        raise ConfigError(f"zip_ has spaces of {counts} points; the same number is required")
    return Zip(spaces)


def chain(*spaces: Space) -> Chain:
    """One after the other."""
    if not spaces:
        raise ConfigError("chain has no spaces; one or more are required")
    return Chain(spaces)


def _require_order(address: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{address} goes from {low} to {high}; low < high is required")


def _require_apart(name: str, spaces: Sequence[Space]) -> None:
    addresses = [address for space in spaces for address in space.addresses()]
    if twice := _once(each for each in addresses if addresses.count(each) > 1):
        raise ConfigError(f"{name} has {', '.join(twice)} twice; a field in one space is required")
    if not spaces:
        raise ConfigError(f"{name} has no spaces; one or more are required")


def _merged(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {address: value for point in points for address, value in point.items()}


def _once(addresses: Any) -> list[str]:
    return list(dict.fromkeys(addresses))
