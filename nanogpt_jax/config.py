"""A run's config: every knob at one address, with its type, default, meaning and rules.

The fixed sections are the dataclasses below. A section that names a thing (`model.name`,
`optimizer.name`, ...) has that thing's own fields beside its fixed ones; changing the name on the
command line brings the new thing's fields and defaults. `Schema` joins both; experiment.py makes
the project's one schema. This file builds no objects and touches no device and no file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import (
    Field,
    Registry,
    fields_of,
    fraction,
    non_negative,
    positive,
    type_name,
    unknown,
)

# A ConfigDict: its attributes are decided at run time, so no type checker knows them.
Settings = Any
Count = Annotated[int, non_negative]
PositiveCount = Annotated[int, positive]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Root:
    """Knobs above all sections."""

    seed: Annotated[int, "seed of initialisation, batches and dropout", non_negative] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on, and how it becomes batches."""

    source: Annotated[str, "KIND:ARGUMENT, such as bundled:tales or text:PATH"] = "bundled:tales"
    val_fraction: Annotated[float, "last share of the corpus, held out", fraction] = 0.1
    format: Annotated[
        Literal["stream", "documents"],
        "stream: windows of running text; documents: one document a row, padded",
    ] = "stream"
    window: Annotated[
        Literal["random", "sequential", "shuffled"], "order of windows, or of documents"
    ] = "random"
    prefetch: Annotated[Count, "batches made ahead by a thread; 0 = inline"] = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """How text becomes tokens."""

    kind: Annotated[str, "char or bpe"] = "char"
    path: Annotated[str, "a tokenizer.json to use; empty = train one on the training part"] = ""
    vocab_size: Annotated[PositiveCount, "tokens of a bpe tokenizer that is trained"] = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Init:
    """Where parameters start."""

    from_: Annotated[str, "run directory whose parameters to start from; empty = random"] = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Budget and shape of training; the first budget that is spent ends the run."""

    steps: Annotated[Count, "updates in total, counted from the first start"] = 1000
    max_tokens: Annotated[Count, "end after so many tokens; 0 = no such limit"] = 0
    max_seconds: Annotated[
        float, "end after so long in this process; 0 = no limit", non_negative
    ] = 0.0
    batch_size: Annotated[PositiveCount, "rows of a batch, all devices together"] = 32
    seq_len: Annotated[PositiveCount, "tokens of a row"] = 128
    accumulate_steps: Annotated[PositiveCount, "micro-shards of a batch, one after the other"] = 1
    compute_dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16", "float64"],
        "of activations; auto = float32 on CPU, bfloat16 on GPU and TPU",
    ] = "auto"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What every optimizer shares."""

    name: Annotated[str, "a function of optim/optimizers.py"] = "adamw"
    learning_rate: Annotated[float, "rate where the schedule's factor is 1", positive] = 1e-3
    clip_norm: Annotated[float, "largest global norm of a gradient; 0 = off", non_negative] = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """What every schedule shares."""

    name: Annotated[str, "a function of optim/schedules.py"] = "warmup_cosine"
    total_steps: Annotated[Count, "length of the schedule; 0 = train.steps of the first start"] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
    """When and on how much a run is evaluated."""

    every_steps: Annotated[Count, "between evaluations; 0 = at the end only"] = 100
    batches: Annotated[PositiveCount, "of train.batch_size rows, the same every time"] = 8
    samples: Annotated[
        Count, "documents sampled and judged, where the corpus can judge them; 0 = none"
    ] = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """When the state is saved, and what is kept."""

    every_steps: Annotated[Count, "between full saves; 0 = at the end only"] = 250
    keep: Annotated[PositiveCount, "newest full saves kept"] = 3
    milestones: Annotated[Count, "log-spaced steps whose parameters are kept for good"] = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """What is written down."""

    every_steps: Annotated[PositiveCount, "between lines of training metrics"] = 10
    tracker: Annotated[Literal["none", "wandb", "trackio"], "a service beside the files"] = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a step is spread over devices; -1 takes the devices that are left."""

    mode: Annotated[Literal["jit", "pmap"], "one program over a mesh, or one per device"] = "jit"
    data: Annotated[int, "devices that split the batch"] = -1
    fsdp: Annotated[int, "devices that split batch and parameters"] = 1
    tensor: Annotated[int, "devices that split heads, hidden units and vocabulary"] = 1


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

    def own(self, chosen: str) -> dict[str, Field]:
        """The fields of the chosen thing; none when it is unknown."""
        name = self.choice(chosen)
        known = self.registry is not None and name in self.registry
        return self.registry.fields(name) if known and self.registry else {}


class Schema:
    """All sections by name; the root's fields stand above them."""

    def __init__(self, sections: Mapping[str, Section]):
        self.sections = dict(sections)
        self.root = fields_of(Root)

    def default(self, **choices: str) -> Settings:
        """A locked config with every default; `choices` names the thing of a section.

        `schema.default(model="gpt", optimizer="muon")`.
        """
        config = ConfigDict({name: field.default for name, field in self.root.items()})
        for name, section in self.sections.items():
            values = {key: field.default for key, field in section.fixed.items()}
            if name in choices:
                values[section.chooser] = choices[name]
            if section.registry is not None:
                chosen = section.choice(values[section.chooser])
                if chosen not in section.registry:
                    address = f"{name}.{section.chooser}"
                    raise ConfigError(unknown(address, chosen, section.registry))
                own = section.own(values[section.chooser])
                values.update({key: field.default for key, field in own.items()})
            config[name] = ConfigDict(values)
        return config.lock()

    def fields(self, config: Settings) -> dict[str, Field]:
        """Every address of `config` with its field."""
        found = dict(self.root)
        for name, section in self.sections.items():
            values = config[name]
            fields = (
                section.fixed | section.own(values[section.chooser])
                if section.registry
                else (section.fixed)
            )
            found.update({f"{name}.{key}": field for key, field in fields.items()})
        return found

    def override(self, config: Settings, assignments: Iterable[tuple[str, str]]) -> Settings:
        """A copy of `config` with `(address, text)` assignments read on top of it.

        Names of things are read first, so that their own fields are known whatever the order.
        Raises ConfigError with every assignment that names no field or cannot be read.
        """
        changed, problems = config.copy_and_resolve_references().unlock(), []
        choosers = {f"{name}.{s.chooser}" for name, s in self.sections.items() if s.registry}
        ordered = sorted(assignments, key=lambda pair: pair[0] not in choosers)
        for address, text in ordered:
            field = self.fields(changed).get(address)
            if field is None:
                problems.append(unknown_address(address, self.fields(changed)))
                continue
            try:
                self._assign(changed, address, field.parse(text))
            except ValueError as error:
                problems.append(f"{address}={text!r}: {error}")
        if problems:
            raise ConfigError(problems)
        return changed.lock()

    def _assign(self, config: Settings, address: str, value: Any) -> None:
        *group, key = address.split(".")
        target = config[group[0]] if group else config
        section = self.sections.get(group[0]) if group else None
        target[key] = value
        if section is None or section.registry is None or key != section.chooser:
            return
        for name in set(target) - set(section.fixed):
            del target[name]
        for name, field in section.own(value).items():
            target[name] = field.default

    def problems(self, config: Settings) -> list[str]:
        """Every field that is missing, unknown, of a wrong type or against its rules."""
        found: list[str] = []
        fields = self.fields(config)
        values = flatten(config)
        found += [unknown_address(name, fields) for name in values if name not in fields]
        for address, field in fields.items():
            if address not in values:
                found.append(f"{address} is missing; its default is {field.default!r}")
            elif problem := field.problem(address, values[address]):
                found.append(problem)
        for name, section in self.sections.items():
            if section.registry is None:
                continue
            chosen = section.choice(config[name][section.chooser])
            if chosen not in section.registry:
                address = f"{name}.{section.chooser}"
                found.append(unknown(address, chosen, section.registry))
        return found

    def split(self, config: Settings, name: str) -> tuple[Any, dict[str, Any]]:
        """A section as its frozen dataclass, and the chosen thing's own values."""
        section = self.sections[name]
        values = {key: config[name][key] for key in section.fixed}
        own = {key: value for key, value in config[name].items() if key not in section.fixed}
        renamed = {key: key for key in values} | {
            field.name.rstrip("_"): field.name for field in dataclasses.fields(section.values)
        }
        return section.values(**{renamed[key]: value for key, value in values.items()}), own


def unknown_address(address: str, fields: Mapping[str, Field]) -> str:
    """One line for an address that is no field, with the nearest one that is."""
    near = unknown("", address, fields).partition("; ")[2]
    if near.startswith("known:"):
        group = address.split(".")[0]
        inside = [name for name in fields if name.startswith(f"{group}.")] or list(fields)
        near = f"known: {', '.join(inside)}"
    return f"config.{address} is not a field; {near}"


def flatten(config: Settings) -> dict[str, Any]:
    """The config as {address: value}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat.update({f"{key}.{name}": each for name, each in value.items()})
        else:
            flat[key] = value
    return flat


def to_json(config: Settings) -> str:
    """The config as JSON text, two levels deep, in the order of the schema."""
    return json.dumps(to_dict(config), indent=2)


def to_dict(config: Settings) -> dict[str, Any]:
    """The config as plain dictionaries, in the order of the schema."""
    nested: dict[str, Any] = {}
    for address, value in flatten(config).items():
        *group, key = address.split(".")
        target = nested.setdefault(group[0], {}) if group else nested
        target[key] = value
    return nested


def from_dict(values: Mapping[str, Any]) -> Settings:
    """The locked config that `to_dict` wrote."""
    return ConfigDict(
        {
            key: ConfigDict(value) if isinstance(value, Mapping) else value
            for key, value in values.items()
        }
    ).lock()


def describe(schema: Schema) -> str:
    """The reference of all fields as Markdown tables: docs/configuration.md."""
    lines: list[str] = []

    def table(fields: Mapping[str, Field], prefix: str) -> None:
        lines.extend(["| field | type | default | meaning |", "|---|---|---|---|"])
        for name, field in fields.items():
            rules = "; ".join(f"must {rule.text}" for rule in field.rules)
            meaning = f"{field.meaning} ({rules})" if rules else field.meaning
            kind = type_name(field.kind).replace("|", "\\|")
            default = repr(field.default) if field.default != "" else "empty"
            lines.append(f"| `{prefix}{name}` | {kind} | `{default}` | {meaning} |")
        lines.append("")

    table(schema.root, "")
    for name, section in schema.sections.items():
        lines.extend([f"## {name}", "", str(section.values.__doc__), ""])
        table(section.fixed, f"{name}.")
        for choice in section.registry or ():
            own = section.registry.fields(choice) if section.registry else {}
            if own:
                lines.extend([f"With `{name}.{section.chooser}` = `{choice}`:", ""])
                table(own, f"{name}.")
    return "\n".join(lines).rstrip() + "\n"
