"""docs/configuration.md as the schema has it; tests/test_configs.py holds the page to it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping

from nanogpt_jax.registry import Field
from nanogpt_jax.schema import Schema, Section

INTRODUCTION = """\
# Configuration

Every knob of a run has one address: `train.steps`, `model.n_layer`, `seed`. A config file starts
from `default_config(data="text:input.txt", model="gpt", optimizer="adamw")`, which holds every
field of the named things with its default, and sets what it wants to be different:
`config.train.steps = 500` (and `config.init["from"] = "checkpoints/minigpt"`, since `from` is a
word of Python). The command line comes last:

    scripts/run python -m nanogpt_jax.main --config=configs/minigpt.py \\
        --config.train.steps=2e3 --config.model.n_layer 6 --config.model.bias --noconfig.model.remat

Some fields name a thing: `model.name`, `optimizer.name`, `schedule.name`, the kind before the colon
of `data.source`, `tokenizer.kind`. The thing has fields of its own, in the same section. Another
name on the command line brings the fields of the new thing with their defaults and drops those of
the old one; the order of the flags does not matter.

A wrong address or value ends the command with exit code 2, before a device or a file is touched,
and says all problems at once, each in one line with the nearest name or the rule that it breaks.
What a run was really made with, every default included, is in its `run.json`.
"""


def describe(schema: Schema) -> str:
    """The page: an introduction, then a table for every section and every named thing."""
    lines = [INTRODUCTION, *_table("", schema.root)]
    for name, section in schema.sections.items():
        lines += ["", f"## {name}", "", str(inspect.getdoc(section.values)), ""]
        lines += [*_table(f"{name}.", section.fixed), *_things(name, section)]
    return "\n".join(lines) + "\n"


def _things(name: str, section: Section) -> Iterator[str]:
    """What can be named in a section, each with its own fields."""
    if section.registry is None:
        return
    for choice in section.registry:
        yield from ("", f"### {name}.{section.chooser} `{choice}`", "")
        yield str(inspect.getdoc(section.registry[choice])).partition("\n\n")[0]
        if fields := section.registry.fields(choice):
            yield from ("", *_table(f"{name}.", fields))


def _table(prefix: str, fields: Mapping[str, Field]) -> Iterator[str]:
    yield from ("| field | type | default | meaning |", "|---|---|---|---|")
    for name, field in fields.items():
        rules = "".join(f"; must {rule.text}" for rule in field.rules)
        default = "empty" if field.default == "" else f"`{field.default}`"
        cells = (f"`{prefix}{name}`", field.type_name, default, field.meaning + rules)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
