"""The page /docs: every route with its fields, an example and its answers, out of /openapi.json.

Nothing is written here that the document does not say, so a new route cannot be forgotten.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nanogpt_jax.serve.forms import Sample, Schema, example, in_words
from nanogpt_jax.serve.markup import Markup, join, page, tag

__all__ = ["Sample", "write"]

KEY = "; where the server has keys, requests need the header `Authorization: Bearer KEY`."
JSON = "application/json"
STREAM = "text/event-stream"
UNSAID = "Successful Response"  # what the framework says where nobody has said anything


class Route(NamedTuple):
    """An operation of the document, and where it is."""

    method: str
    path: str
    told: Mapping[str, Any]

    @property
    def anchor(self) -> str:
        """Its name in the page."""
        return f"{self.method}{self.path}".replace("{", "").replace("}", "").replace("/", "-")


def write(document: Mapping[str, Any], sample: Sample) -> str:
    """The page of an OpenAPI document; examples are asked of the model of `sample`."""
    groups = _groups(document)
    forms = document.get("components", {}).get("schemas", {})
    about = document["info"]
    sections = [
        tag("section", tag("h2", name), *(_route(each, forms, sample) for each in routes))
        for name, routes in groups.items()
    ]
    described = [
        tag("article", tag("h3", name), *_form(form), id=name) for name, form in forms.items()
    ]
    return page(
        f"{about['title']}: the routes",
        tag("h1", f"{about['title']} {about['version']}"),
        _prose(about.get("description", "")),
        tag(
            "p",
            "For programs: ",
            tag("a", "openapi.json", href="/openapi.json"),
            _words(KEY),
            class_="faint",
        ),
        _contents(groups),
        tag("main", *sections, tag("section", tag("h2", "Forms"), *described)),
    )


def _groups(document: Mapping[str, Any]) -> dict[str, list[Route]]:
    """The routes by their first tag, in the order of the document."""
    groups: dict[str, list[Route]] = {}
    for path, operations in document["paths"].items():
        for method, told in operations.items():
            group = told.get("tags", ["other"])[0]
            groups.setdefault(group, []).append(Route(method.upper(), path, told))
    return groups


def _contents(groups: Mapping[str, list[Route]]) -> Markup:
    entries = [
        tag("li", tag("a", *_named(route), href=f"#{route.anchor}"))
        for routes in groups.values()
        for route in routes
    ]
    return tag("nav", tag("ul", *entries), aria_label="Routes")


def _named(route: Route) -> tuple[Markup, Markup]:
    return tag("code", route.method, class_="method"), tag("code", route.path)


def _route(route: Route, forms: Mapping[str, Schema], sample: Sample) -> Markup:
    told = route.told
    return tag(
        "article",
        tag("h3", *_named(route)),
        _prose(told.get("description", told.get("summary", ""))),
        *_parameters(told.get("parameters", ())),
        *_body(told, forms),
        tag("h4", "Example"),
        tag("pre", tag("code", _curl(route, forms, sample))),
        tag("h4", "Answers"),
        _table(("status", "content", "meaning"), _answers(told["responses"])),
        id=route.anchor,
    )


def _parameters(parameters: Any) -> list[Markup]:
    if not parameters:
        return []
    rows = [
        (
            tag("code", each["name"]),
            in_words(each["schema"]),
            _default(each["schema"], each.get("required", False)),
            _words(each.get("description", f"in the {each['in']}")),
        )
        for each in parameters
    ]
    return [tag("h4", "Parameters"), _table(("name", "type", "default", "meaning"), rows)]


def _body(told: Mapping[str, Any], forms: Mapping[str, Schema]) -> list[Markup]:
    schema = _body_schema(told)
    if schema is None:
        return []
    form = forms[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return [tag("h4", "Body"), *_form(form)]


def _body_schema(told: Mapping[str, Any]) -> Schema | None:
    return told.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema")


def _form(form: Schema) -> list[Markup]:
    """What a form is for, and its fields."""
    written = [_prose(form["description"])] if "description" in form else []
    if "properties" not in form:
        return [*written, tag("p", in_words(form))]
    required = form.get("required", ())
    rows = [
        (
            tag("code", name),
            in_words(field),
            _default(field, name in required),
            _words(field.get("description", "")),
        )
        for name, field in form["properties"].items()
    ]
    return [*written, _table(("field", "type", "default", "meaning"), rows)]


def _default(schema: Schema, required: bool) -> Markup:
    if required:
        return tag("span", "required", class_="faint")
    return tag("code", json.dumps(schema.get("default")))


def _answers(responses: Mapping[str, Any]) -> Iterator[tuple[Markup, ...]]:
    for status, told in responses.items():
        content = [
            join([in_words(each.get("schema", {})), _media(kind)])
            for kind, each in told.get("content", {}).items()
        ]
        meaning = told.get("description", "")
        yield tag("code", status), join(content, ", "), _words(meaning.replace(UNSAID, ""))


def _media(kind: str) -> Markup:
    return Markup("") if kind == JSON else tag("span", f" as {kind}", class_="faint")


def _curl(route: Route, forms: Mapping[str, Schema], sample: Sample) -> str:
    """A command that asks the route."""
    path = route.path.replace("{model}", sample.model).replace("{run_id}", "RUN_ID")
    words = ["curl", f"{sample.address.rstrip('/')}{path}"]
    if route.method not in ("GET", "POST"):
        words[1:1] = ["-X", route.method]
    if any(STREAM in told.get("content", {}) for told in route.told["responses"].values()):
        words[1:1] = ["-N"]  # show what comes as it comes
    command = shlex.join(words)
    if schema := _body_schema(route.told):
        asked = json.dumps(example(schema, forms, sample), ensure_ascii=False)
        command += f" \\\n    -H 'Content-Type: application/json' \\\n    -d {shlex.quote(asked)}"
    return command


def _table(heads: tuple[str, ...], rows: Any) -> Markup:
    head = tag("tr", *(tag("th", each, scope="col") for each in heads))
    body = [tag("tr", *(tag("td", each) for each in row)) for row in rows]
    return tag("table", tag("thead", head), tag("tbody", *body))


def _prose(text: str) -> Markup:
    """Paragraphs."""
    written = [tag("p", _words(" ".join(part.split()))) for part in text.split("\n\n")]
    return join(written)


def _words(text: str) -> Markup:
    """A sentence, in which what stands between backticks is code."""
    parts = text.split("`")
    return join([tag("code", part) if n % 2 else join((part,)) for n, part in enumerate(parts)])
