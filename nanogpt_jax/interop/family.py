"""A class of transformers as a table: what its config.json and its tensors are in `gpt`.

Who adds a class writes one `Family`. A config is carried exactly or refused, field by field;
nothing is approximated, and what only training knows (dropout, initialisation) does not travel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.models.gpt import Config
from nanogpt_jax.registry import Field, fields_of

# Fields that change no logit.
OF_TRAINING = frozenset({"dropout", "init", "remat", "mup_base_width"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One class; a key of config.json is written with dots where it is nested.

    A field of `gpt` that is neither in `fields` nor in `fixed` must have its default.
    """

    architecture: str
    model_type: str
    fields: dict[str, str]  # key -> the field of `gpt` that it is
    fixed: dict[str, Any]  # field of `gpt` -> its one value here, where that is not the default
    required: dict[str, Any]  # key -> its one value that `gpt` can follow; absent is that too
    defaults: dict[str, Any]  # key -> what it is where config.json lacks it
    activations: dict[str, str]  # theirs -> ours; of several that mean one, the first is written
    names: dict[str, str]  # path of ours -> tensor; several of one name stand side by side
    transposed: bool = True  # linear layers keep (outputs, inputs)
    turned: bool = False  # rotary angles run the other way: the halves of a head change places
    unused: frozenset[str] = frozenset()  # fields of `gpt` that mean nothing in this class
    buffers: tuple[str, ...] = ()  # ends of names of tensors that are no parameters

    def problems(self, config: Config) -> list[str]:
        """Every field of `config` that the class does not carry, and what it would have to be."""
        config, free = _shortest(config), {*self.fields.values(), *OF_TRAINING, *self.unused}
        wanted = {name: field.default for name, field in fields_of(Config).items()} | self.fixed
        found = [
            _required(f"model.{name}", getattr(config, name), value)
            for name, value in wanted.items()
            if name not in free and getattr(config, name) != value
        ]
        if config.activation not in (ours := dict.fromkeys(self.activations.values())):
            found.append(_required("model.activation", config.activation, *ours))
        return found

    def describe(self, config: Config, vocab_size: int) -> dict[str, Any]:
        """The content of config.json."""
        names = {ours: theirs for theirs, ours in reversed([*self.activations.items()])}
        config = _explicit(config)
        found: dict[str, Any] = {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "dtype": "float32",
            "vocab_size": vocab_size,
        }
        for key, field in self.fields.items():
            value = getattr(config, field)
            _put(found, key, names[value] if field == "activation" else _or_null(value))
        for key, value in self.required.items():
            _put(found, key, value)
        return found

    def read(self, settings: Mapping[str, Any]) -> Config:
        """The config that config.json describes; ConfigError names every key that does not fit."""
        flat = self.defaults | _flatten(settings)
        problems = [
            _required(key, flat[key], wanted)
            for key, wanted in self.required.items()
            if flat.get(key, wanted) != wanted
        ]
        known, values = fields_of(Config), dict(self.fixed)
        for key, name in self.fields.items():
            if name == "activation" and flat.get(key) not in self.activations:
                problems.append(_required(key, flat.get(key), *self.activations))
            elif key not in flat:
                problems.append(f"{key} is missing")
            elif name in known:  # the others follow from these
                value = self._value(known[name], flat[key])
                problems += filter(None, [known[name].problem(key, value)])
                values[name] = value
        if problems:
            raise ConfigError(problems)
        config = Config(**values)
        if problems := [*config.problems(), *self._contradictions(config, flat)]:
            raise ConfigError(problems)
        return config

    def _value(self, field: Field, value: Any) -> Any:
        """A value of config.json as the field has it: null is 0 there, and 15 may be 15.0."""
        if field.name == "activation":
            return self.activations[value]
        if value is None and field.kind in (int, float):
            return field.kind(0)
        return float(value) if field.kind is float and isinstance(value, int) else value

    def _contradictions(self, config: Config, flat: Mapping[str, Any]) -> list[str]:
        """Keys that say otherwise than others: two of one field, and what follows from fields."""
        if config.problems():
            return []
        written = _flatten(self.describe(config, 0))
        return [
            _required(key, flat[key], written[key])
            for key, name in self.fields.items()
            if name != "activation" and flat[key] is not None and flat[key] != written[key]
        ]

    def differences(self, ours: Config, theirs: Config) -> list[str]:
        """Every field by which `ours` is another model than `theirs`, which the class describes.

        A shorter context is the same model where positions are no parameters.
        """
        ours, theirs = _shortest(ours), _shortest(theirs)
        free = {*OF_TRAINING, *self.unused}
        if theirs.positions == "rope" and ours.max_seq_len <= theirs.max_seq_len:
            free.add("max_seq_len")
        return [
            _required(f"model.{name}", getattr(ours, name), getattr(theirs, name))
            for name in fields_of(Config)
            if name not in free and getattr(ours, name) != getattr(theirs, name)
        ]


def _required(name: str, found: Any, *wanted: Any) -> str:
    return f"{name}={found!r}, {' or '.join(map(repr, wanted))} is required"


def _explicit(config: Config) -> Config:
    """`config` with the numbers that 0 stands for."""
    heads, hidden = config.n_kv_head or config.n_head, config.d_hidden or 4 * config.d_model
    return dataclasses.replace(config, n_kv_head=heads, d_hidden=hidden)


def _shortest(config: Config) -> Config:
    """`config` with 0 for the numbers that it stands for: equal models compare equal."""
    heads = 0 if config.n_kv_head == config.n_head else config.n_kv_head
    hidden = 0 if config.d_hidden == 4 * config.d_model else config.d_hidden
    return dataclasses.replace(config, n_kv_head=heads, d_hidden=hidden)


def _or_null(value: Any) -> Any:
    """`value`, or null for the number 0, which switches a thing off."""
    return None if value == 0 and not isinstance(value, bool) else value


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    for name in outer:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by dotted key; older files keep the rotary ones apart."""
    rotary = {"rope_theta": settings.get("rope_theta"), **(settings.get("rope_scaling") or {})}
    rotary.setdefault("rope_type", rotary.get("type"))
    rotary |= settings.get("rope_parameters") or {}
    found = {f"rope_parameters.{key}": value for key, value in rotary.items() if value is not None}
    return {key: value for key, value in settings.items() if key != "rope_parameters"} | found
