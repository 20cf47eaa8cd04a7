"""What the server offers to strangers: its routes, their forms, and a request that is in order.

Everything is read from the application object, so that a new route cannot be forgotten; `GOOD`
alone is written by hand, and a test compares it with the routes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI

URL = "http://127.0.0.1:8787"
PROMPT = "3 times 4 is "
_INTERVALS = {"checkpoint_interval": 0, "eval_interval": 0}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "run", "prompt": PROMPT, "max_tokens": 1},
    "/v1/chat/completions": {
        "model": "run",
        "messages": [{"role": "user", "content": "3"}],
        "max_tokens": 1,
    },
    "/api/generate": {"prompt": PROMPT, "max_tokens": 1, "temperature": 1.0},
    "/api/continue": {"prompt": PROMPT, "max_tokens": 1},
    "/api/train": {"train_steps": 10, "learning_rate": 0.1, **_INTERVALS},
    "/api/inspect/tokens": {"prompt": PROMPT},
    "/api/inspect/lens": {"prompt": PROMPT},
    "/api/inspect/attention": {"prompt": PROMPT},
    "/api/inspect/ablate": {"prompt": PROMPT},
    "/api/inspect/silence": {"prompt": PROMPT, "heads": [[0, 1]], "mlps": [1]},
    "/api/inspect/text": {"prompt": PROMPT, "max_tokens": 1},
    "/api/inspect/patch": {"clean": "3 times 4 is ", "corrupted": "3 times 7 is "},
}


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route, those that no documentation has included."""
    return sorted(_walk(app.routes))


def _walk(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:  # how younger versions of the framework keep routers
            yield from _walk(included.routes)
        else:
            yield from ((method, route.path) for method in route.methods)


def fill(path: str) -> str:
    """A path without parameters left in it."""
    return path.replace("{model}", "run").replace("{run_id}", "x").replace("{name}", "x")


def form_of(app: FastAPI, path: str) -> dict[str, Any]:
    """The schema of the body of a POST."""
    body = app.openapi()["paths"][path]["post"]["requestBody"]
    return resolve(app, body["content"]["application/json"]["schema"])


def resolve(app: FastAPI, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference names."""
    if "$ref" not in schema:
        return schema
    return app.openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


def allows(app: FastAPI, schema: dict[str, Any], value: Any) -> bool:
    """Whether a value is one that the schema promises to read: our own reading of JSON Schema."""
    schema = resolve(app, schema)
    if "anyOf" in schema:
        return any(allows(app, each, value) for each in schema["anyOf"])
    match schema["type"]:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return type(value) is int and _bounded(schema, value)
        case "number":
            return type(value) in (int, float) and _bounded(schema, value)
        case "string":
            right = "enum" not in schema or value in schema["enum"]
            return isinstance(value, str) and right and _sized(schema, value, "Length")
        case "array":
            right = isinstance(value, list) and _sized(schema, value, "Items")
            return right and all(allows(app, schema["items"], each) for each in value)
        case "object":
            return isinstance(value, dict) and schema.get("required", []) == []
    raise AssertionError(f"a schema of another kind: {schema}")


def _bounded(schema: dict[str, Any], value: float) -> bool:
    return (
        (isinstance(value, int) or math.isfinite(value))
        and schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and schema.get("exclusiveMinimum", -math.inf) < value
        and value < schema.get("exclusiveMaximum", math.inf)
    )


def _sized(schema: dict[str, Any], value: Any, what: str) -> bool:
    return schema.get(f"min{what}", 0) <= len(value) <= schema.get(f"max{what}", math.inf)
