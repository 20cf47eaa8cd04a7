"""The pages know the routes by ui/openapi.json, from which their types are generated.

NANOGPT_REGENERATE=1 scripts/run pytest tests/serve/test_pages_schema.py
scripts/ui npm run schema
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service

FILE = Path(__file__).resolve().parents[2] / "ui" / "openapi.json"


def test_the_pages_know_the_routes_as_they_are(service: Service):
    document = build_app(service, Caps()).openapi()
    assert "/api/inspect/attention" in document["paths"]
    if os.environ.get("NANOGPT_REGENERATE"):
        FILE.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    assert json.loads(FILE.read_text()) == document
