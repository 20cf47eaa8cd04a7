"""What the tests of microgpt share: the names, and the original's first results."""

import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def names_text(data_file: Callable[[str], Path]) -> str:
    return data_file("names.txt").read_text()


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """What the original printed, in full precision, for its first steps and samples."""
    folder = os.environ.get("NANOGPT_DATA", REPOSITORY.parent / "shared" / "data")
    beside_data = Path(folder).parent / "spec" / "microgpt_golden.json"
    path = Path(os.environ.get("NANOGPT_GOLDEN", beside_data))
    if not path.is_file():
        pytest.skip(f"found no {path}; NANOGPT_GOLDEN names the file")
    return json.loads(path.read_text())


@pytest.fixture
def _no_garbage() -> Iterator[None]:
    """As the command runs, a third faster: Values make no circles to be looked for."""
    gc.disable()
    yield
    gc.enable()
