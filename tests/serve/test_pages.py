"""/ and /assets: the inspector's build and nothing else of the disk; what / is without one."""

from __future__ import annotations

import urllib.parse
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nanogpt_jax.serve.api import pages
from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.markup import STYLE_PATH, tag
from nanogpt_jax.serve.policy import Policy, digest
from tests.serve.asking import HOST, ask
from tests.serve.hostile_values import TRAVERSALS

URL = "http://127.0.0.1:8787"
SECRET = b"not of the build"
FILES = {
    "index-3f.js": "text/javascript; charset=utf-8",
    "index-3f.css": "text/css; charset=utf-8",
    "inter-latin.woff2": "font/woff2",
    "mark.svg": "image/svg+xml",
    "names.json": "application/json",
    "page.html": "text/html; charset=utf-8",
}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build, a secret beside it and one in it, and links to both."""
    folder = tmp_path / "static"
    assets = folder / "assets"
    (assets / "deeper").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>inspector</title>")
    for name in FILES:
        (assets / name).write_text(f"content of {name}")
    for secret in (tmp_path / "secret.txt", assets / ".hidden.js", assets / "deeper" / "a.js"):
        secret.write_bytes(SECRET)
    for secret in (assets / "id_rsa", assets / "page.py", folder / "beside.js"):
        secret.write_bytes(SECRET)
    (assets / "link.js").symlink_to(tmp_path / "secret.txt")
    (assets / "broken.js").symlink_to(tmp_path / "nothing.js")
    (assets / "folder.js").mkdir()
    return folder


def app_of(build: Path, policy: Policy | None = None) -> Any:
    service: Any = SimpleNamespace()
    return build_app(service, Caps(), policy=policy, pages_from=build)


def client_of(build: Path, policy: Policy | None = None) -> TestClient:
    return TestClient(app_of(build, policy), base_url=URL)


def test_the_page_is_asked_for_again_and_its_files_are_kept_for_ever(build: Path):
    client = client_of(build)
    page = client.get("/")
    assert page.text == "<!doctype html><title>inspector</title>"
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    for name, kind in FILES.items():
        answer = client.get(f"/assets/{name}")
        assert (answer.status_code, answer.text) == (200, f"content of {name}")
        assert answer.headers["content-type"] == kind
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_new_build_is_served_without_a_new_start(build: Path):
    client = client_of(build)
    (build / "index.html").write_text("second")
    assert client.get("/").text == "second"


@pytest.mark.parametrize(
    "name",
    [
        *("link.js", "broken.js", "folder.js", ".hidden.js", "id_rsa", "page.py", "nothing.js"),
        *("deeper/a.js", "deeper", "", ".", "..", "../beside.js", "..%2fbeside.js", "%2e%2e/x.js"),
        *("index-3f.js/", "index-3f.js%00", "index-3f.js%0a", "INDEX-3F.JS", "a" * 300 + ".js"),
    ],
)
def test_what_is_no_file_of_the_build_is_not_there(name: str, build: Path):
    for spelled in {name, urllib.parse.unquote(name)}:
        answer = ask(app_of(build), f"/assets/{spelled}", headers=[HOST])
        assert answer.status == 404 and answer.json()["error"] == "not_found"
        assert SECRET not in answer.body


def test_no_path_leads_out_of_the_build(build: Path):
    app = app_of(build)
    for payload in TRAVERSALS:
        for text in {payload, urllib.parse.unquote(payload)}:
            answer = ask(app, f"/assets/{text}", headers=[HOST])
            assert answer.status in (404, 405) and SECRET not in answer.body, text


def test_a_folder_that_is_a_link_is_not_followed(build: Path):
    (build / "assets").rename(build.parent / "elsewhere")
    (build / "assets").symlink_to(build.parent / "elsewhere")
    assert (build / "assets" / "index-3f.js").is_file()
    assert client_of(build).get("/assets/index-3f.js").status_code == 404


def test_pages_take_no_other_method(build: Path):
    client = client_of(build)
    for path in ("/", "/assets/index-3f.js", "/docs", STYLE_PATH):
        answer = client.post(path, json={})
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_the_inspector_is_open_where_the_api_needs_a_key(build: Path):
    client = client_of(build, Policy(key_digests=frozenset({digest("right")})))
    for path in ("/", "/assets/index-3f.js", STYLE_PATH):
        assert client.get(path).status_code == 200
    for path in ("/docs", "/openapi.json", "/api/recipes", "/assets", "//assets/index-3f.js"):
        assert client.get(f"{URL}{path}").status_code == 401, path


class Links(HTMLParser):
    """Everything that a page asks a browser to load or to go to, and what it may not have."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_without_a_build_the_page_says_how_to_make_one(tmp_path: Path):
    answer = client_of(tmp_path / "static").get("/")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-cache"
    assert "scripts/build_ui" in answer.text
    found = Links(answer.text)
    assert sorted(found.addresses) == ["/docs", STYLE_PATH, "data:,"]
    assert not {"script", "style"} & {*found.elements} and "style" not in found.attributes


def test_the_style_of_our_pages_loads_nothing():
    style = client_of(Path("nowhere")).get(STYLE_PATH)
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert "url(" not in style.text and "@import" not in style.text and "//" not in style.text


def test_the_build_is_looked_for_in_the_package():
    assert (pages.PACKAGE / "app.py").is_file() and pages.BUILD == pages.PACKAGE / "static"


def test_what_is_put_into_an_element_is_text():
    written = tag("p", "<script>", tag("b", "a & b"), class_='"><script>')
    assert written == ('<p class="&quot;&gt;&lt;script&gt;">&lt;script&gt;<b>a &amp; b</b></p>')
    assert tag("p", f"{tag('b', 'x')} y") == "<p>&lt;b&gt;x&lt;/b&gt; y</p>"  # joined to text
