"""What a machine that has read the documentation can think of, right and wrong, NUL bytes included.

Seeded; a few seconds by default, thousands of requests as `slow`, more than ten thousand as
`sweep`. What people think of is in hostile_values.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Service
from tests.serve.live import serving
from tests.serve.test_bystanders import bystander

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "negative_data_rejection", "unsupported_method"),
)


def document(address: str, folder: Path) -> Path:
    """The server's documentation, with the model that there is: most guesses would be no name."""
    documented = httpx.get(f"{address}/openapi.json").json()
    for form in ("CompletionRequest", "ChatRequest"):
        properties = documented["components"]["schemas"][form]["properties"]
        properties["model"] = {"type": "string", "enum": ["run"]}
    # What the schema of a stream is of, OpenAPI leaves open: here of the JSON after `data: `, for
    # schemathesis of an event whose data is text. test_writing.py reads the JSON by its schema.
    answered = documented["paths"]["/api/continue"]["post"]["responses"]["200"]["content"]
    assert answered["text/event-stream"]["schema"]["$ref"].endswith("ContinueEvent")
    answered["text/event-stream"]["schema"] = {
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"type": "string", "contentMediaType": "application/json"}},
    }
    path = folder / "openapi.json"
    path.write_text(json.dumps(documented))
    return path


@pytest.mark.parametrize(
    ("phases", "most_examples", "least_cases"),
    [
        pytest.param("examples,fuzzing", 3, 40, marks=pytest.mark.brief),
        pytest.param("examples,coverage,fuzzing", 60, 1500, marks=pytest.mark.slow),
        pytest.param("examples,coverage,fuzzing", 1000, 10_000, marks=pytest.mark.sweep),
    ],
)
def test_every_answer_is_one_that_is_documented(
    phases: str, most_examples: int, least_cases: int, service: Service, tmp_path: Path
):
    pytest.importorskip("schemathesis")
    app = build_app(service, Caps(rate=0, max_tokens=16, queue_length=16))
    with serving(app) as port:
        address = f"http://127.0.0.1:{port}"
        command = (
            f"run {document(address, tmp_path)} --url {address} --mode all --seed 1 --no-color "
            f"--phases {phases} --max-examples {most_examples} --generation-allow-x00 true "
            f"--request-timeout 30 --generation-database none --checks {','.join(CHECKS)}"
        )
        with httpx.Client(base_url=address, timeout=30) as client, bystander(client):
            ended = subprocess.run(
                [Path(sys.executable).with_name("schemathesis"), *command.split()],
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
        assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
        assert httpx.get(f"{address}/ready").status_code == 200
    found = re.search(r"(\d+) generated", ended.stdout)
    assert found and int(found[1]) >= least_cases, ended.stdout[-3000:]
