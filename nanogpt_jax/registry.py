"""Names to functions, and signatures to schemas.

A keyword that has an annotation and a default is a config field; one without a default is handed
over by the caller. So the signature of an optimizer, or the dataclass of a model, is its schema,
and the decorator is its only registration. `Annotated` carries the sentence for the documentation
and the rules that a value must keep:

    Rate = Annotated[float, "learning rate", positive]

This file knows no config and reads no command line: config.py does, with these fields.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeVar


@dataclasses.dataclass(frozen=True)
class Rule:
    """A condition on one value, and the words that say it."""

    text: str
    holds: Callable[[Any], bool]


positive = Rule("be greater than 0", lambda value: value > 0)
non_negative = Rule("be at least 0", lambda value: value >= 0)
below_one = Rule("be at least 0 and below 1", lambda value: 0 <= value < 1)
fraction = Rule("lie between 0 and 1", lambda value: 0 <= value <= 1)


@dataclasses.dataclass(frozen=True)
class Field:
    """One knob: its type, default, meaning and rules."""

    name: str
    kind: Any
    default: Any
    meaning: str
    rules: tuple[Rule, ...]

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values allowed by a `Literal` annotation; empty for other types."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else ()

    def parse(self, text: str) -> Any:
        """The value that `text` writes, or ValueError saying what is expected."""
        if self.choices:
            return text
        if self.kind is bool:
            values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            if text.lower() in values:
                return values[text.lower()]
        elif self.kind is str:
            return text
        elif self.kind in (int, float):
            try:
                number = float(text)
                return _as_integer(text, number) if self.kind is int else number
            except ValueError:
                pass
        else:
            try:
                return ast.literal_eval(text)
            except (ValueError, SyntaxError):
                pass
        raise ValueError(f"a value of type {type_name(self.kind)} is required")

    def problem(self, address: str, value: Any) -> str | None:
        """What is wrong with `value` at `address`, or None."""
        if self.choices:
            if value not in self.choices:
                return unknown(address, value, self.choices)
        elif not _is_of(self.kind, value):
            return f"{address}={value!r}: a value of type {type_name(self.kind)} is required"
        for rule in self.rules:
            if not rule.holds(value):
                return f"{address}={value!r} must {rule.text}"
        return None


def _as_integer(text: str, number: float) -> int:
    """1000, 1_000 and 1e3 are integers; 1.5 is not."""
    try:
        return int(text)
    except ValueError:
        if number.is_integer():
            return int(number)
        raise


def _is_of(kind: Any, value: Any) -> bool:
    if kind is float:
        return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return isinstance(value, tuple) and all(_is_of(item, each) for each in value)
    return isinstance(value, kind)


def type_name(kind: Any) -> str:
    """The type as the documentation writes it."""
    if typing.get_origin(kind) is Literal:
        return " | ".join(typing.get_args(kind))
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def unknown(address: str, found: object, known: Iterable[object]) -> str:
    """One line for a name that is not there, with the nearest one that is."""
    names = sorted(str(name) for name in known)
    near = difflib.get_close_matches(str(found), names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return f"{address}={found!r} is not known; {remedy}"


def fields_of(target: Callable[..., Any] | type) -> dict[str, Field]:
    """The config fields that a function's keywords, or a dataclass's fields, declare."""
    hints = typing.get_type_hints(target, include_extras=True)
    fields = {}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.default is inspect.Parameter.empty or parameter.name not in hints:
            continue
        kind, meaning, rules = hints[parameter.name], "", []
        if isinstance(kind, types.UnionType):  # handed over by the caller: Mask | None = None
            continue
        if typing.get_origin(kind) is typing.Annotated:
            kind, *extras = typing.get_args(kind)
            # The sentence nearest to the field wins over that of an alias it was built from.
            meaning = next((extra for extra in reversed(extras) if isinstance(extra, str)), "")
            rules = [extra for extra in extras if isinstance(extra, Rule)]
        name = parameter.name.rstrip("_")  # a field may be a keyword of Python: from_
        fields[name] = Field(name, kind, parameter.default, meaning, tuple(rules))
    return fields


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
