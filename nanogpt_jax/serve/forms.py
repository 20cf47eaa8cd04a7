"""The schemas of an OpenAPI document for people: a type in words, and a value that fits.

As much of JSON Schema as the server's own forms use. The page is made in manual.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nanogpt_jax.serve.markup import Markup, join, tag

Schema = Mapping[str, Any]

BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} long",
    "maxLength": "at most {} long",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}
# Above this a power of two reads better as one.
LARGEST_WRITTEN = 2**20
TEXTS = ("prompt", "clean", "corrupted", "content", "stop")
VALUES = {
    "learning_rate": 0.001,
    "max_tokens": 32,
    "role": "user",
    "temperature": 0.8,
    "train_steps": 100,
}


class Sample(NamedTuple):
    """What examples are made of: the server's address, the model's name, a text it may know."""

    address: str
    model: str
    text: str


def name_of(schema: Schema) -> str | None:
    """The name of the form that a schema refers to."""
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else None


def in_words(schema: Schema) -> Markup:
    """The type and its bounds; forms are links to where they are described."""
    if name := name_of(schema):
        return tag("a", name, href=f"#{name}")
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return join([in_words(each) for each in options], " or ")
    if "const" in schema:
        return _code(schema["const"])
    if "enum" in schema:
        return join([_code(each) for each in schema["enum"]], " or ")
    kind = schema.get("type", "anything")
    if kind == "array":
        items = schema.get("prefixItems")
        inner = [in_words(each) for each in items] if items else [in_words(schema.get("items", {}))]
        return join([_bounded("list", schema), join(inner, " and ")], " of ")
    if schema.get("format") == "binary":
        return Markup("bytes")
    return _bounded(str(kind), schema)


def example(schema: Schema, forms: Mapping[str, Schema], sample: Sample, field: str = "") -> Any:
    """A value of the schema: of an object, the fields that it must have."""
    if name := name_of(schema):
        return example(forms[name], forms, sample, field)
    if field == "model":
        return sample.model
    if field in VALUES:
        return VALUES[field]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return example(options[0], forms, sample, field)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {
                name: example(fields[name], forms, sample, name)
                for name in schema.get("required", ())
            }
        case "array":
            items = schema.get("prefixItems") or [schema["items"]] * schema.get("minItems", 1)
            return [example(each, forms, sample, field) for each in items]
        case "string":
            return sample.text if field in TEXTS else schema.get("const", field or "text")
        case "boolean":
            return False
        case "null":
            return None
    least = schema.get("minimum", 0)
    return int(least) if schema.get("type") == "integer" else least


def _bounded(kind: str, schema: Schema) -> Markup:
    bounds = [words.format(_number(schema[b])) for b, words in BOUNDS.items() if b in schema]
    return join((f"{kind} ({', '.join(bounds)})" if bounds else kind,))


def _number(value: float) -> str:
    if value != int(value):
        return f"{value:g}"
    for beyond, less in ((int(value), ""), (int(value) + 1, " - 1")):
        power = beyond.bit_length() - 1
        if beyond > LARGEST_WRITTEN and beyond == 2**power:
            return f"2^{power}{less}"
    return str(int(value))


def _code(value: Any) -> Markup:
    return tag("code", str(value))
