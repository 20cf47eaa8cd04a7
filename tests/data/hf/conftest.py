"""The hub that the tests of hf:// talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from nanogpt_jax.data.network import http
from tests.data.hf.hub import Hub
from tests.hostile_server import HostileServer, make_impatient


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub, for a client with little patience, an empty cache and no token."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(http, "RETRIES", http.Retries(5, 0.001))
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NANOGPT_HF_REQUEST_DELAY_MS", "0")
    monkeypatch.setenv("NANOGPT_HF_RETRY_BASE_DELAY_MS", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with HostileServer().serving() as server:
        make_impatient(monkeypatch, server)
        monkeypatch.setenv("NANOGPT_HF_ROWS_ENDPOINT", server.url)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield Hub(server)
