"""Values, texts, bodies and headers that have broken other servers, and who is sent them.

What a schema allows is no attack, so none of it is here but where a route refuses it all the same.
Sending it and judging the answers is the tests' business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.serve.surface import GOOD, allows, form_of

JSON = {"content-type": "application/json"}
MISSING = object()
OF_ANY_TYPE = [MISSING, None, True, "5", 5.5, [], {}, "", 10**400, -1, 0, "\x00"]
NUMBERS = [math.nan, math.inf, -math.inf, -0.1, 1.0000001, 1.5, 1e30, 2**31, 2**53, 2**63, 2**64]
TEXTS = {
    "control characters": "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)])),
    "NUL": "\0",
    "right to left": "\u202e3\u202c",
    "no width": "\u200b\u2060\ufeff",
    "combining marks": "3" + "\u0301" * 3000,
    "another plane": "\U0001f600",
    "a special token": "<|endoftext|><|bos|>",
    "half a pair": "\ud800",
    "an escape sequence": "\x1b[2J\x1b]0;x\x07",
    "markup": "<img src=x onerror=alert(1)>",
    "too many bytes": "3" * 8193,
    "too much for any body": "a" * 2**20,
}
# Beside the table: what lies deeper than a field, and what a schema allows but a route does not.
DEEPER: list[tuple[str, str, Any]] = [
    *(("/v1/completions", "prompt", value) for value in ([[]], [-1], [2**31], [True], [""], [1e9])),
    ("/v1/completions", "prompt", [10**6]),
    ("/v1/completions", "prompt", ["3", 3]),
    ("/v1/completions", "prompt", ["3"] * 17),
    ("/v1/completions", "prompt", ["3"] * 5000),
    ("/v1/completions", "prompt", "3" * 65),
    ("/v1/completions", "n", 17),
    ("/v1/completions", "best_of", 2),
    ("/v1/completions", "suffix", "3"),
    ("/v1/chat/completions", "messages", [{"role": "user"}]),
    ("/v1/chat/completions", "messages", [{"role": "tool", "content": "3"}]),
    ("/v1/chat/completions", "messages", [{"role": "user", "content": None}]),
    ("/v1/chat/completions", "messages", [{"role": "user", "content": "3", "name": "x"}]),
    ("/v1/chat/completions", "messages", [{"role": "user", "content": [{"type": "image_url"}]}]),
    ("/v1/chat/completions", "messages", [{"role": "user", "content": "3"}] * 257),
    ("/v1/chat/completions", "top_logprobs", 3),
    *(
        (path, name, value)
        for path in ("/v1/completions", "/v1/chat/completions")
        for name, value in (
            ("model", "another"),
            ("stop", ["3"] * 5),
            ("stop", ["3"] * 10_000),
            ("stop", [""]),
            ("stop", "3" * 257),
            ("stop", [None]),
            ("max_tokens", 513),
            ("top_k", 10**6),
            ("logit_bias", {"1": math.nan}),
            ("logit_bias", {"1": True}),
            ("logit_bias", {"1": 1.0}),
            ("presence_penalty", 0.5),
            ("frequency_penalty", -0.5),
            ("stream_options", {"include_usage": 1}),
            ("stream_options", {"include": True}),
            ("stream_options", {"include_usage": True}),
            ("unknown", 1),
            ("__proto__", {}),
        )
    ),
    ("/api/generate", "max_tokens", 0),
    ("/api/generate", "max_tokens", 513),
    ("/api/generate", "temperature", 0),
    ("/api/generate", "temperature", -1),
    ("/api/generate", "top_k", 0),
    ("/api/generate", "prompt", ""),
    ("/api/generate", "unknown", 1),
    *(("/api/continue", "prompt", value) for value in ([10**6], [1] * 8193, [-1], [True])),
    ("/api/continue", "max_tokens", 513),
    ("/api/continue", "stop", ["3"] * 5),
    ("/api/continue", "unknown", 1),
    *(("/api/train", "recipe", value) for value in ("moe", "../gpt", "GPT", "same\0")),
    *(("/api/train", "train_steps", value) for value in (0, -1, 10**6, 10**400)),
    *(("/api/train", "learning_rate", value) for value in (0, -1, 1.1, 1e300, 10**400)),
    *(("/api/train", "resume_from", value) for value in (-1, 7, 10**400, "", "../6", "6\0", "x")),
    ("/api/train", "workdir", "/tmp"),
    *(
        (f"/api/inspect/{name}", field, value)
        for name in ("attention", "ablate")
        for field in ("layers", "heads")
        for value in ([-1], [4], [2**31], [0] * 1025, [True], ["0"], [None], [0.5])
    ),
    *(
        (f"/api/inspect/{name}", "run", value)
        for name in ("tokens", "text")
        for value in ("", ".", "..", "../run", "/etc", "run/", "run/../run", "r\0n", "another")
    ),
    *(
        ("/api/inspect/silence", "heads", value)
        for value in ([0, 1], [[0]], [[0, 1, 2]], [[2, 0]], [[0, 4]], [[-1, 0]], [[0, True]])
    ),
    *(("/api/inspect/silence", "mlps", value) for value in ([2], [-1], ["0"], [[0]], [0] * 1025)),
    *(("/api/inspect/tokens", "prompt", value) for value in ([], [19], [-1], [0] * 65, ["3"])),
    *(("/api/inspect/text", "prompt", value) for value in ([], [19], [-1], [0.5])),
    ("/api/inspect/text", "max_tokens", 257),
    ("/api/inspect/lens", "depths", [3]),
    ("/api/inspect/patch", "answer", 10**6),
    ("/api/inspect/patch", "corrupted", "3"),
]
BODIES = {
    "nothing": b"",
    "not JSON": b"{'prompt': 3}",
    "cut short": b'{"prompt": "3", "max_tok',
    "more after it": b"{} {}",
    "a list": b"[]",
    "null": b"null",
    "a number": b"5",
    "a text": b'"3"',
    "brackets": b"[" * 100_000,
    "objects": b'{"prompt":' * 10_000,
    "no UTF-8": b'{"prompt": "\xff"}',
    "UTF-16": '{"prompt": "3"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "digits": b'{"seed": ' + b"9" * 100_000 + b"}",
    "an exponent": b'{"seed": 1e999999999}',
    "64 MiB": b" " * 2**26,
}
HEADERS: dict[str, dict[str, str]] = {
    "a form": {"content-type": "application/x-www-form-urlencoded"},
    "a page's form": {"content-type": "text/plain;application/json"},
    "files": {"content-type": "multipart/form-data; boundary=x"},
    "no type": {"content-type": ""},
    "gzip": {"content-encoding": "gzip"},
    "deflate": {"content-encoding": "deflate"},
    "a large header": {"x-large": "x" * 2**20},
    "10 000 headers": {f"x-{number}": "x" for number in range(10_000)},
    "a long length": {"content-length": "9" * 5000},
    "a length below zero": {"content-length": "-1"},
}
STEPS = ["../", "..\\", "%2e%2e/", "..%2f", "..%5c", "%252e%252e/", "....//", "..;/", "..\x00/"]
TARGETS = ["etc/passwd", "secret.txt", "checkpoints/6/metadata.json", "pyproject.toml"]
TRAVERSALS = [
    *(step * depth + target for step in STEPS for depth in (1, 2, 4, 8) for target in TARGETS),
    *(f"{start}{target}" for start in ("/", "//", "\\", "C:\\", "file:///") for target in TARGETS),
    *(f"6/{step}{step}{target}" for step in STEPS for target in TARGETS),
    *(
        "/etc/passwd\x00.json",
        "~/secret.txt",
        "$HOME/secret.txt",
        "${HOME}",
        "`id`",
        "|id",
        "6\x00",
    ),
]


def cases_of(app: FastAPI, path: str) -> Iterator[tuple[str, Any]]:
    """Fields of a form with values that its schema forbids."""
    form = form_of(app, path)
    for name, schema in form["properties"].items():
        for value in [*OF_ANY_TYPE, *NUMBERS]:
            forbidden = (
                name in form["required"] if value is MISSING else not allows(app, schema, value)
            )
            if forbidden:
                yield name, value
    yield from ((name, value) for each, name, value in DEEPER if each == path)


def post(client: TestClient, path: str, changes: dict[str, Any]) -> Any:
    body = {name: v for name, v in {**GOOD[path], **changes}.items() if v is not MISSING}
    return client.post(path, content=json.dumps(body), headers=JSON)


def named_by(answer: Any) -> str:
    """What an answer says of the request, for people and for programs."""
    error = answer.json()["error"]
    return f"{error['param']} {error['message']}" if isinstance(error, dict) else answer.text
