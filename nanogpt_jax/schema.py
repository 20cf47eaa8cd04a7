"""The schema of a config: which addresses there are, given the names that the config holds.

A section has the fields of its dataclass and, where it names a thing (`model.name`,
`optimizer.name`, ...), that thing's own fields beside them. Problems are collected and not raised,
so that a caller can show all of them at once. No object is built here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nanogpt_jax.config import Settings, flatten, from_dict, to_dict
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import Field, Registry, fields_of, unknown


@dataclasses.dataclass(frozen=True)
class Section:
    """The fields of one section: fixed ones, and those of the thing that `chooser` names."""

    values: type
    registry: Registry[Any] | None = None
    chooser: str = "name"
    choice: Callable[[str], str] = str  # from the chooser's value to a name of the registry

    @property
    def fixed(self) -> dict[str, Field]:
        """The fields of the dataclass."""
        return fields_of(self.values)

    def own(self, chosen: object) -> dict[str, Field]:
        """The fields of the chosen thing; none when it is unknown."""
        if self.registry is None or self.problem("", chosen):
            return {}
        return self.registry.fields(self.choice(str(chosen)))

    def problem(self, address: str, chosen: object) -> str | None:
        """What is wrong with a chooser's value at `address`, or None."""
        name = self.choice(str(chosen))
        if self.registry is None or name in self.registry:
            return None
        return unknown(address, name, self.registry)


class Schema:
    """All sections by name; the fields of `root` stand above them."""

    def __init__(self, root: type, sections: Mapping[str, Section]):
        self.root = fields_of(root)
        self.sections = dict(sections)

    def default(self, **choices: str) -> Settings:
        """A locked config with every default; `choices` names the thing of a section.

        `schema.default(model="gpt", optimizer="muon")`.
        """
        values: dict[str, Any] = _defaults(self.root)
        naming = [name for name, section in self.sections.items() if section.registry is not None]
        problems = [unknown("section", name, naming) for name in choices if name not in naming]
        for name, section in self.sections.items():
            values[name] = _defaults(section.fixed)
            if section.registry is None:
                continue
            chosen = choices.get(name, values[name][section.chooser])
            if problem := section.problem(f"{name}.{section.chooser}", chosen):
                problems.append(problem)
            values[name] |= {section.chooser: chosen} | _defaults(section.own(chosen))
        if problems:
            raise ConfigError(problems)
        return from_dict(values)

    def fields(self, values: Mapping[str, Any]) -> dict[str, Field]:
        """Every address that a config with these values has, with its field."""
        found = dict(self.root)
        for name, section in self.sections.items():
            held = values.get(name)
            chosen = held.get(section.chooser) if isinstance(held, Mapping) else None
            fields = section.fixed | section.own(chosen)
            found |= {f"{name}.{key}": field for key, field in fields.items()}
        return found

    def complete(self, values: Mapping[str, Any]) -> tuple[Settings, list[str]]:
        """A recorded config with the defaults of the fields that are younger, and their addresses.

        A new field's default is what was done before there was one.
        """
        held = {name: dict(v) if isinstance(v, Mapping) else v for name, v in values.items()}
        added = []
        for address, field in self.fields(held).items():
            name, _, key = address.rpartition(".")
            section = held.setdefault(name, {}) if name else held
            if key not in section:
                section[key] = field.default
                added.append(address)
        return from_dict(held), added

    def override(
        self, config: Settings, assignments: Iterable[tuple[str, str]]
    ) -> tuple[Settings, dict[str, str]]:
        """`config` with `(address, text)` assignments, and a line for each that cannot be read.

        Names of things come first, so that their own fields are known whatever the order.
        """
        values, problems = to_dict(config), {}
        choosers = {
            f"{name}.{section.chooser}"
            for name, section in self.sections.items()
            if section.registry is not None
        }
        for address, text in sorted(assignments, key=lambda pair: pair[0] not in choosers):
            fields = self.fields(values)
            if address not in fields:
                problems[address] = unknown_address(address, fields)
                continue
            try:
                value = fields[address].parse(text)
            except ValueError as error:
                problems[address] = f"{address}={text!r}: {error}"
                continue
            name, _, key = address.rpartition(".")
            if address not in choosers:
                (values.setdefault(name, {}) if name else values)[key] = value
            elif problem := self.sections[name].problem(address, value):
                problems[address] = problem
            else:
                values[name] = _choose(self.sections[name], values.get(name, {}), value)
        return from_dict(values), problems

    def problems(self, config: Settings) -> dict[str, str]:
        """A line for every address that is missing, unknown, of a wrong type or against a rule."""
        fields, values = self.fields(to_dict(config)), flatten(config)
        found = {name: self._stranger(name, values) for name in values if name not in fields}
        for address, field in fields.items():
            if address not in values:
                found[address] = f"config.{address} is missing; its default is {field.default!r}"
            elif problem := field.problem(address, values[address]):
                found[address] = problem
        for name, section in self.sections.items():
            address = f"{name}.{section.chooser}"
            if address in values and (problem := section.problem(address, values[address])):
                # Which fields there should be, nobody knows.
                own = {each for each in found if each.startswith(f"{name}.")} - fields.keys()
                found = {each: line for each, line in found.items() if each not in own}
                found[address] = problem
        return found

    def _stranger(self, address: str, values: Mapping[str, Any]) -> str:
        """One line for an address in a config that is no field there."""
        name = address.partition(".")[0]
        section = self.sections.get(name)
        chooser = f"{name}.{section.chooser}" if section and section.registry else ""
        if chooser not in values:
            return unknown_address(address, self.fields({}))
        return (
            f"config.{address} is no field where {chooser}={values[chooser]!r}; in a config file, "
            f"start from default_config({name}={values[chooser]!r})"
        )

    def split(self, config: Settings, name: str) -> tuple[Any, dict[str, Any]]:
        """A section as its frozen dataclass, and the chosen thing's own values."""
        section = self.sections[name]
        fixed = {
            field.name: config[name][field.name.rstrip("_")]
            for field in dataclasses.fields(section.values)
        }
        own = {key: value for key, value in config[name].items() if key not in section.fixed}
        return section.values(**fixed), own


def _defaults(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {name: field.default for name, field in fields.items()}


def _choose(section: Section, values: Mapping[str, Any], chosen: str) -> dict[str, Any]:
    """The values of a section for a choice: another thing brings its own, the same keeps them."""
    kept = {**values, section.chooser: chosen}
    if section.choice(chosen) == section.choice(str(values.get(section.chooser))):
        return kept
    fixed = {name: value for name, value in kept.items() if name in section.fixed}
    return fixed | _defaults(section.own(chosen))


def unknown_address(address: str, fields: Mapping[str, Field]) -> str:
    """One line for an address that is no field, with the nearest one that is."""
    section = address.partition(".")[0]
    inside = [name for name in fields if name.startswith(f"{section}.")]
    line = unknown("", address, fields)
    if "did you mean" not in line and inside:
        line = unknown("", address, inside)
    return f"config.{address} is not a field; {line.partition('; ')[2]}"
