"""What the tests of reliability share: a process that saves under faults, and the proof they write.

    pytest tests/reliability --prove [-m "slow or not slow"]

counts the trials of every test that ran, and renews their lines in docs/reliability.md. Without the
option nothing is written, and a session in which something failed writes nothing either.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from nanogpt_jax.record import git_commit
from tests.reliability.proof import Trial, rewrite
from tests.reliability.saving import Ended

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "reliability.md"
PROVEN = "proven"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --prove; it is known where this folder, or a file of it, is named."""
    parser.addoption("--prove", action="store_true", help="renew the table of docs/reliability.md")


def pytest_configure(config: pytest.Config) -> None:
    """Collects trials where they are asked for, in the process that hears of all tests."""
    if config.getoption("prove", False) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Prover())


class Prover:
    """Hears the trials of all tests, from whatever process they ran in, and writes the table."""

    def __init__(self):
        self._trials: list[Trial] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes what a test that passed has proven."""
        if report.when == "call" and report.passed:
            noted: list[Any] = [each for name, each in report.user_properties if name == PROVEN]
            self._trials += [Trial(*each) for each in noted]

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Writes the table."""
        if exitstatus == pytest.ExitCode.OK and self._trials:
            date = datetime.datetime.now(datetime.UTC).date().isoformat()
            page = PAGE.read_text(encoding="utf-8")
            page = rewrite(page, self._trials, date, git_commit() or "-")
            PAGE.write_text(page, encoding="utf-8")


class Proven(Protocol):
    """Notes that a trial of a row of the scorecard held, and what it cost; larger is worse."""

    def __call__(self, row: str, value: float, unit: str) -> None: ...


@pytest.fixture
def proven(request: pytest.FixtureRequest) -> Proven:
    """A function that notes one trial of the test that calls it."""
    name = f"{request.node.path.name}::{request.node.originalname}"

    def note(row: str, value: float, unit: str) -> None:
        request.node.user_properties.append((PROVEN, [row, name, unit, value]))

    return note


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """faults.c as a library for LD_PRELOAD."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.fail("no `cc` on the PATH: faults are injected by a library that is compiled here")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    options = ["-std=c11", "-O1", "-Wall", "-Werror", "-U_FORTIFY_SOURCE", "-shared", "-fPIC"]
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, *options, "-o", str(library), str(source)], check=True)
    return library


@pytest.fixture(scope="session")
def saver(preload: Path) -> Iterator[Callable[..., Ended]]:
    """A function that saves steps in a fresh process, under faults, and says how that ended."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.reliability.saver"],
        cwd=REPOSITORY,
        env=os.environ | {"LD_PRELOAD": str(preload)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        orders, endings = server.stdin, server.stdout
        assert orders is not None and endings is not None

        def ask(directory: Path, steps: list[int], *, keep: int = 1, **faults: object) -> Ended:
            """`faults` are the variables of faults.c in lower case, without their beginning."""
            faults = {"folder": directory, **faults} if faults else {}
            variables = {f"FAULTS_{name.upper()}": str(value) for name, value in faults.items()}
            order = {"directory": str(directory), "steps": steps, "keep": keep, "faults": variables}
            orders.write(json.dumps(order) + "\n")
            orders.flush()
            return Ended(**json.loads(endings.readline()))

        yield ask
