"""Servers as processes of their own, on free ports, for as long as a block lasts.

What they serve, and what is asked of them, is not known here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nanogpt_jax.bench.load import HOST
from nanogpt_jax.errors import NanogptError
from nanogpt_jax.serve.limits import PREFIX

END_SECONDS = 40.0  # a drain, and what comes after it


@contextlib.contextmanager
def started(module: str, words: Sequence[str], variables: Mapping[str, str]) -> Iterator[int]:
    """The port of a server in a process of its own, ready; it is ended with the block.

    NanogptError with the end of what it wrote, where it does not come so far.
    """
    # The caps and keys of whoever measures are not part of the measurement.
    environment = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment | {**variables},
        ) as process,
    ):
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.]+:(\d+)", process.stdout.readline())
            if not found:
                process.wait(END_SECONDS)
                log.seek(0)
                raise NanogptError(f"python -m {module} did not start: {log.read()[-2000:]}")
            fetch(int(found[1]), "GET", "/ready")
            yield int(found[1])
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()


def fetch(port: int, method: str, path: str, form: Any = None) -> Any:
    """The content of an answer; NanogptError where it is a refusal."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    with contextlib.closing(connection):
        headers = {"content-type": "application/json"}
        connection.request(method, path, form and json.dumps(form), headers)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != 200:
        raise NanogptError(f"{path} answers {answer.status}: {content[:500].decode()}")
    return json.loads(content)
