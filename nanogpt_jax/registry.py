"""Names to functions, and signatures to schemas.

A keyword that has an annotation and a default is a config field; one without a default is handed
over by the caller. So the signature of an optimizer, or the dataclass of a model, is its schema,
and the decorator is its only registration. `Annotated` carries the sentence for the documentation
and the rules that a value must keep:

    Rate = Annotated[float, "learning rate", positive]

This file knows no config and reads no command line: config.py does, with these fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import math
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar


@dataclasses.dataclass(frozen=True)
class Rule:
    """A condition on one value, and the words that say it."""

    text: str
    holds: Callable[[Any], bool]


positive = Rule("be greater than 0", lambda value: value > 0)
non_negative = Rule("be at least 0", lambda value: value >= 0)
below_one = Rule("be at least 0 and below 1", lambda value: 0 <= value < 1)
fraction = Rule("lie between 0 and 1", lambda value: 0 <= value <= 1)
# What random number generators take: numpy's, grain's and jax's without 64-bit types.
seed_range = Rule("be at least 0 and below 2**32", lambda value: 0 <= value < 2**32)

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclasses.dataclass(frozen=True)
class Field:
    """One knob: its type, default, meaning and rules.

    `kind` is bool, int, float, str, Path or a `Literal` of strings. A required one has
    `inspect.Parameter.empty` for its default.
    """

    name: str
    kind: Any
    default: Any
    meaning: str
    rules: tuple[Rule, ...]

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that a `Literal` allows; empty for other types."""
        return typing.get_args(self.kind)

    @property
    def type_name(self) -> str:
        """The type as a reader writes it."""
        return " | ".join(self.choices) or self.kind.__name__

    def parse(self, text: str) -> Any:
        """The value that `text` writes, or ValueError saying what is required.

        1e3 is an integer, a path becomes an absolute one.
        """
        try:
            if self.kind is bool:
                return _BOOLEANS[text.lower()]
            if self.kind is int:
                return _integer(text)
            if self.kind is float:
                return float(text)
        except (KeyError, ValueError, OverflowError) as error:
            raise ValueError(f"a value of type {self.type_name} is required") from error
        return Path(text).expanduser().resolve() if self.kind is Path else text

    def problem(self, address: str, value: Any) -> str | None:
        """What is wrong with `value` at `address`, or None."""
        if self.choices:
            return None if value in self.choices else unknown(address, value, self.choices)
        if not _is_of(self.kind, value):
            return f"{address}={value!r}: a value of type {self.type_name} is required"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{address}={value!r}: a finite number is required"
        broken = [rule.text for rule in self.rules if not rule.holds(value)]
        return f"{address}={value!r} must {' and '.join(broken)}" if broken else None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        if not float(text).is_integer():
            raise
        return int(float(text))


def _is_of(kind: type, value: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def unknown(address: str, found: object, known: Iterable[str]) -> str:
    """One line for a name that is not there, with the nearest one that is."""
    names = sorted(known)
    near = difflib.get_close_matches(str(found), names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return f"{address}={found!r} is not known; {remedy}"


def field_of(name: str, hint: Any, default: Any) -> Field:
    """The field that a parameter's annotation and default declare."""
    kind, meaning, rules = hint, "", []
    if typing.get_origin(hint) is typing.Annotated:
        kind, *extras = typing.get_args(hint)
        # The sentence nearest to the field wins over that of an alias it was built from.
        meaning = next((extra for extra in reversed(extras) if isinstance(extra, str)), "")
        rules = [extra for extra in extras if isinstance(extra, Rule)]
    return Field(name.rstrip("_"), kind, default, meaning, tuple(rules))  # from_: Python's keyword


def fields_of(target: Callable[..., Any] | type) -> dict[str, Field]:
    """The config fields that a function's keywords, or a dataclass's fields, declare."""
    hints = typing.get_type_hints(target, include_extras=True)
    fields = [
        field_of(parameter.name, hints[parameter.name], parameter.default)
        for parameter in inspect.signature(target).parameters.values()
        if parameter.default is not inspect.Parameter.empty
        # `Mask | None = None` is handed over by the caller too.
        and not isinstance(hints.get(parameter.name), types.NoneType | types.UnionType)
    ]
    return {field.name: field for field in fields}


Target = TypeVar("Target", bound=Callable[..., Any])


class Registry(Generic[Target]):
    """Named functions (or classes) of one kind, found in the modules of one package.

    The package is imported at the first look, so that a registry costs nothing until it is used.
    """

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self._package = package
        self._targets: dict[str, Target] = {}

    def __call__(self, target: Target) -> Target:
        """Decorator: registers `target` under its own name."""
        return self.named(target.__name__)(target)

    def named(self, name: str) -> Callable[[Target], Target]:
        """Decorator: registers a target under `name`."""

        def register(target: Target) -> Target:
            self._targets[name] = target
            return target

        return register

    def _all(self) -> Mapping[str, Target]:
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        return self._targets

    def __getitem__(self, name: str) -> Target:
        targets = self._all()
        if name not in targets:
            raise KeyError(unknown(f"{self.kind}.name", name, targets))
        return targets[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def fields(self, name: str) -> dict[str, Field]:
        """The config fields of the target called `name`."""
        return fields_of(self[name])
