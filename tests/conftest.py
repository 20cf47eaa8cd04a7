"""What every test shares: the platform, the hypothesis profile, and where the data files are.

It knows nothing of the package, so that a broken import fails one test file and not all of them.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from absl import logging

# Here, so that it is set before jax is imported: tests are the same everywhere unless asked.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Compiling takes most of the time: what one test, or the last run, has compiled serves all, and is
# compiled without optimisations, unless XLA_FLAGS is set, as in .ci/run.
REPOSITORY = Path(__file__).resolve().parents[1]
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".pytest_cache" / "programs"))
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

# No deadline, because the first example compiles; derandomized, because a failure must repeat.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("tests")


# What the extras serve and clients bring, without which nothing under tests/serve can be imported.
SERVING = ("fastapi", "httpx", "openai", "prometheus_client", "schemathesis", "uvicorn")
MISSING = [name for name in SERVING if importlib.util.find_spec(name) is None]
collect_ignore = ["serve"] if MISSING else []


def pytest_configure() -> None:
    """In CI nothing may be left out."""
    if MISSING and os.environ.get("CI"):
        raise pytest.UsageError(f"tests/serve needs {', '.join(MISSING)}: the extras of .ci/run")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what was left out."""
    if MISSING:
        terminalreporter.write_line(
            f"tests/serve was left out, for want of {', '.join(MISSING)}: "
            "NANOGPT_EXTRAS=serve,clients scripts/run pytest"
        )


# Runs of many seconds that several tests look at: on eight devices, of two variants, of two phases.
SLOW_FIXTURES = {"compared", "measured", "phased"}


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks a test as slow when what it looks at is slow to make; files with slow ones go first.

    At the end one process would wait for the other, which has begun a file of minutes.
    """
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests out of the user's cache, and processes that they start as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


LEVEL = logging.get_absl_logger().level


@pytest.fixture(autouse=True)
def _own_verbosity() -> None:
    """A command that was quiet, or loud, leaves no test after it so; nor does a shared fixture."""
    logging.get_absl_logger().setLevel(LEVEL)


@pytest.fixture(scope="session")
def data_file() -> Callable[[str], Path]:
    """A function from a data file's name to its path; it skips the test where there is none."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("NANOGPT_DATA", REPOSITORY.parent / "shared" / "data"))
        path = folder / name
        if not path.is_file():
            pytest.skip(f"found no {name}; NANOGPT_DATA names the folder that holds it")
        return path

    return find
