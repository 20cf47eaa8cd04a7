"""GET / and /assets/*: the inspector as `scripts/build_ui` built it; GET /docs: every route.

A file is served if it lies, a file and no link, right in the folder of the build and has a type
that a build makes; nothing else of the disk can be named. The pages hold no secret, so `/` and what
it loads are open also where the API needs a key: the inspector asks for one.
"""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from nanogpt_jax.serve import manual
from nanogpt_jax.serve.guard import ASSETS
from nanogpt_jax.serve.markup import STYLE_PATH, page, tag
from nanogpt_jax.serve.service import Served

PACKAGE = Path(__file__).parents[1]
BUILD = PACKAGE / "static"  # ignored by git, and a part of the wheel
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")  # never hidden, never a folder
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
# A build names its files by their content; only the page that names them has one name for ever.
KEPT = {"cache-control": "public, max-age=31536000, immutable"}
ASKED_AGAIN = {"cache-control": "no-cache"}


def build_router(build: Path = BUILD) -> APIRouter:
    """The pages, those of the inspector from the folder `build`."""
    router = APIRouter(include_in_schema=False)

    # Plain functions: they wait for files, so FastAPI calls them in threads.
    @router.get("/")
    def show_inspector() -> Response:
        """The inspector, or how to build it."""
        found = read(build, "index.html")
        content = not_built().encode() if found is None else found
        return Response(content, media_type=TYPES[".html"], headers=ASKED_AGAIN)

    @router.get(f"{ASSETS}{{name}}")
    def send_asset(name: str) -> Response:
        """A file that the inspector is made of."""
        content = read(build / Path(ASSETS).name, name)
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type=TYPES[Path(name).suffix], headers=KEPT)

    @router.get(STYLE_PATH)
    def send_style() -> Response:
        """The style of the pages that are made here."""
        content = (PACKAGE / "page.css").read_bytes()
        return Response(content, media_type=TYPES[".css"], headers=ASKED_AGAIN)

    @router.get("/docs")
    def show_manual(request: Request) -> Response:
        """Every route, with its fields and an example."""
        served: Served = request.app.state.service.current()
        opening = served.run.record.corpus["opening"]
        sample = manual.Sample(str(request.base_url), served.workdir.name, opening)
        content = manual.write(request.app.openapi(), sample)
        return Response(content, media_type=TYPES[".html"], headers=ASKED_AGAIN)

    return router


def read(folder: Path, name: str) -> bytes | None:
    """A file of the build; None where there is none of this name that may be served."""
    path = folder / name
    if not NAME.fullmatch(name) or path.suffix not in TYPES:
        return None
    if folder.is_symlink() or path.is_symlink() or not path.is_file():
        return None
    try:
        return path.read_bytes()
    except OSError:  # a new build has taken its place, or nobody may read it
        return None


def not_built() -> str:
    """The page at / where the inspector has not been built."""
    return page(
        "nanogpt_jax",
        tag("h1", "The inspector is not built yet"),
        tag("p", "The server runs, and its API answers. To see the model think, build the pages:"),
        tag("pre", tag("code", "scripts/build_ui")),
        tag("p", "Then load this page again; the server need not be restarted."),
        tag("p", tag("a", "Every route of the API", href="/docs")),
    )
