"""/docs: every route of the server, on a page that needs nobody else and can be tried."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nanogpt_jax.serve.api.openai_requests import ChatRequest
from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.forms import Sample, example, in_words
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.manual import write
from nanogpt_jax.serve.service import Service
from tests.serve.surface import GOOD, URL
from tests.serve.test_pages import Links

SAMPLE = Sample(URL, "run", 'It\'s <b>"so"</b>')


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    return build_app(service, Caps(rate=0))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=URL) as client:
        yield client


@pytest.fixture(scope="module")
def page(client: TestClient) -> str:
    answer = client.get("/docs")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    return answer.text


def commands_of(page: str) -> list[list[str]]:
    """The words of every example, as a shell reads them."""
    written = re.findall(r"<pre><code>(curl .*?)</code></pre>", page, re.DOTALL)
    return [shlex.split(html.unescape(each)) for each in written]


def test_every_route_and_every_form_is_there(app: FastAPI, page: str):
    document = app.openapi()
    for path, operations in document["paths"].items():
        for method, told in operations.items():
            assert f'<code class="method">{method.upper()}</code><code>{path}</code>' in page
            assert html.escape(told["description"].split("\n")[0].split("`")[0]) in page
    for name, form in document["components"]["schemas"].items():
        assert f'<article id="{name}">' in page
        for field in form.get("properties", ()):
            assert f"<code>{field}</code>" in page


def test_it_has_no_script_and_no_address_outside_the_server(page: str):
    found = Links(page)
    assert len(found.addresses) > 50
    anchors = {f"#{name}" for name in re.findall(r'id="([^"]*)"', page)}
    for address in found.addresses:
        assert address in anchors | {"/page.css", "/openapi.json", "data:,"}, address
    assert not {"script", "style", "iframe", "img", "base"} & {*found.elements}
    assert not {name for name in found.attributes if name.startswith("on") or name == "style"}
    for address in re.findall(r"\w*:?//[^\s<\"']+", html.unescape(page)):
        assert address.startswith(URL), address


def test_every_reference_of_the_document_leads_to_a_form(app: FastAPI):
    document = app.openapi()
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert len(names) > 20 and names <= document["components"]["schemas"].keys()
    assert not any("__" in name for name in names)  # two forms of one name


@pytest.mark.slow
def test_every_example_is_answered_or_refused_for_what_this_server_is(
    client: TestClient, page: str
):
    bodies, refused = set(), {}
    for words in commands_of(page):
        [address] = [word for word in words if word.startswith(URL)]
        path = address.removeprefix(URL)
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        if "-d" in words:
            method, body = "POST", words[words.index("-d") + 1]
            bodies.add(path)
            header = dict([words[words.index("-H") + 1].split(": ")])
            answer = client.post(path, content=body, headers=header)
        else:
            answer = client.request(method, path)
        if answer.status_code >= 300:
            refused[method, path] = answer.status_code
    assert bodies == GOOD.keys()
    assert refused == {
        ("POST", "/v1/chat/completions"): 400,  # the model is not tuned
        ("POST", "/api/train"): 503,  # nothing is trained here
        ("GET", "/api/train/RUN_ID"): 404,
        ("GET", "/api/train/RUN_ID/status"): 404,
        ("DELETE", "/api/train/RUN_ID"): 404,
    }


def test_the_example_of_a_conversation_is_in_order(page: str):
    [words] = [words for words in commands_of(page) if f"{URL}/v1/chat/completions" in words]
    asked = ChatRequest.model_validate_json(words[words.index("-d") + 1])
    assert [message.role for message in asked.messages] == ["user"]


def test_the_served_run_is_what_is_asked_in_its_own_words(page: str, service: Service):
    opening = service.current().run.record.corpus["opening"]
    assert opening and html.escape(json.dumps(opening)) in page
    assert "/v1/models/run" in page


def test_words_of_a_run_are_text_in_the_page_and_one_word_of_the_command(app: FastAPI):
    page = write(app.openapi(), SAMPLE)
    assert "<b>" not in page
    told = [words[words.index("-d") + 1] for words in commands_of(page) if "-d" in words]
    assert any(json.loads(each).get("prompt") == SAMPLE.text for each in told)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31}, "integer (≥ 0, &lt; 2^31)"),
        ({"type": "integer", "maximum": 2147483647.0}, "integer (≤ 2^31 - 1)"),
        ({"type": "integer", "minimum": 1.0, "maximum": 100}, "integer (≥ 1, ≤ 100)"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "number (&gt; 0, ≤ 0.5)"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"enum": ["a", "b"]}, "<code>a</code> or <code>b</code>"),
        ({"const": "a"}, "<code>a</code>"),
        ({"$ref": "#/components/schemas/Form"}, '<a href="#Form">Form</a>'),
        (
            {"type": "array", "items": {"type": "boolean"}, "maxItems": 4},
            "list (at most 4) of boolean",
        ),
        ({"type": "string", "format": "binary"}, "bytes"),
        ({}, "anything"),
    ],
)
def test_a_type_is_told_in_words(schema: dict[str, Any], words: str):
    assert in_words(schema) == words


def test_an_example_has_what_a_form_requires_and_no_more():
    form = {
        "type": "object",
        "required": ["prompt", "heads", "kind", "model", "steps"],
        "properties": {
            "prompt": {"type": "string"},
            "heads": {
                "type": "array",
                "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
            },
            "kind": {"enum": ["a", "b"]},
            "model": {"type": "string"},
            "steps": {"type": "integer", "minimum": 2.0},
            "more": {"type": "integer"},
        },
    }
    found = example({"$ref": "#/components/schemas/Form"}, {"Form": form}, SAMPLE)
    assert json.dumps(found) == json.dumps(
        {"prompt": SAMPLE.text, "heads": [[0, 0]], "kind": "a", "model": "run", "steps": 2}
    )
