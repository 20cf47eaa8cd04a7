"""A large file to tokens: how much memory all processes take, and how fast they are.

NANOGPT_LARGE_MB=1000 pytest -m "" -n0 -s tests/data/test_large.py, for a gigabyte.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers

from nanogpt_jax import tokenization
from nanogpt_jax.data.sources import tales
from nanogpt_jax.data.store import encoding
from tests.opened import open_corpus

MB = 10**6
SIZE_MB = int(os.environ.get("NANOGPT_LARGE_MB", "100"))
# The library is measured on the beginning of the file.
MEASURED_MB = 20
OPEN = """
import sys
from pathlib import Path
from nanogpt_jax import tokenization
from nanogpt_jax.data.store import open_store
from tests.opened import open_corpus
text, tokenizer, documents = sys.argv[1:]
corpus = open_corpus(f"text:{text}", documents=bool(documents))
store = open_store(corpus, tokenization.load(Path(tokenizer)), 0.1)
print(len(store.train.ids) + len(store.val.ids))
"""


def resident_bytes(pid: int) -> int:
    """The memory of a process and of those it has started, shared pages counted in each."""
    total = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        total = int(pages) * os.sysconf("SC_PAGE_SIZE")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        total += sum(resident_bytes(int(child)) for child in children)
    return total


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    stories = "\n".join(tales.story(index, 0)[0] for index in range(2000)) + "\n"
    path = tmp_path_factory.mktemp("large") / "stories.txt"
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < SIZE_MB * MB:
            file.write(stories)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def tokenizer_file(large_file: Path) -> Path:
    path = large_file.with_name("tokenizer.json")
    texts = itertools.islice(open_corpus(f"text:{large_file}").read(0).train.texts, 60)
    tokenization.train("bpe", texts, 4096).save(path)
    return path


@pytest.mark.parametrize(
    "documents",
    [pytest.param(True, marks=pytest.mark.slow), pytest.param(False, marks=pytest.mark.sweep)],
)
def test_a_large_file_takes_bounded_memory(
    large_file: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    documents: bool,
):
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path))
    command = [sys.executable, "-c", OPEN, large_file, tokenizer_file, "1" * documents]
    peak_bytes, started = 0, time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak_bytes = max(peak_bytes, resident_bytes(process.pid))
            time.sleep(0.05)
        assert process.stdout is not None
        tokens = int(process.stdout.read())
    seconds = time.monotonic() - started
    assert tokens > SIZE_MB * MB / 20
    processes = min(encoding.count_cores(), encoding.MAX_PROCESSES)
    rate = large_file.stat().st_size / MB / seconds
    form = "documents" if documents else "running text"
    print(f"\n{SIZE_MB} MB of {form}: {rate:.1f} MB/s, {peak_bytes / MB:.0f} MB of memory")
    # Whatever the size of the file: a gigabyte stays under 1.5 GB with eight processes.
    assert peak_bytes < (300 + 150 * processes) * MB


@pytest.mark.sweep
def test_the_rate_of_the_library_on_the_same_file(large_file: Path, tokenizer_file: Path):
    library = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    texts = open_corpus(f"text:{large_file}").read(0).train.texts
    pieces = itertools.islice(texts, MEASURED_MB * 2**6)
    begun, characters = time.monotonic(), 0
    while batch := list(itertools.islice(pieces, 512)):
        library.encode_batch(batch, add_special_tokens=False)
        characters += sum(map(len, batch))
    rate = characters / MB / (time.monotonic() - begun)
    print(f"\ntokenizers.encode_batch alone: {rate:.1f} MB/s")
    assert characters > min(SIZE_MB, MEASURED_MB) * MB * 0.9
