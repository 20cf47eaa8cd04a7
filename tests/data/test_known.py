"""Known corpora: where a file is looked for, what it must be, and one line where there is none."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax.data.network import http
from nanogpt_jax.data.sources import known, parse_source, sources
from nanogpt_jax.data.store import cache_directory
from nanogpt_jax.errors import ConfigError, DataError, MissingExtra
from tests.opened import open_corpus, refusal

REPOSITORY = Path(__file__).resolve().parents[2]
PUBLISHED = [known.SHAKESPEARE, known.NAMES, *known.TINYSTORIES.values(), known.FINEWEB_EDU]


@pytest.fixture(autouse=True)
def _nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folder is given, the cache is empty, and nothing can be downloaded."""

    def download(url: str, path: Path, **_: Any) -> None:
        raise DataError(f"{url} cannot be reached")

    monkeypatch.delenv("NANOGPT_DATA", raising=False)
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(http, "download", download)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., known.Published]:
    """A function that makes `content` the published one of a corpus."""

    def publish_(published: known.Published, content: bytes) -> known.Published:
        digest = hashlib.sha256(content).hexdigest()
        changed = published._replace(size_bytes=len(content), sha256=digest)
        for name, value in vars(known).items():
            if value is published:
                monkeypatch.setattr(known, name, changed)
        for part, value in known.TINYSTORIES.items():
            if value is published:
                monkeypatch.setitem(known.TINYSTORIES, part, changed)
        return changed

    return publish_


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publish: Callable[..., Any]) -> Any:
    """A function that publishes `content`, and puts it into the folder NANOGPT_DATA."""

    def give_(published: known.Published, content: bytes) -> Path:
        publish(published, content)
        path = tmp_path / "given" / published.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        monkeypatch.setenv("NANOGPT_DATA", str(path.parent))
        return path

    return give_


def texts_of(source: str, *, documents: bool = True) -> list[str]:
    train, val = open_corpus(source, documents=documents).read(0.5)
    return [*train.texts, *val.texts]


def test_the_known_corpora_are_found_by_their_names():
    names = {published.source.partition(":")[0] for published in PUBLISHED}
    assert names == {"shakespeare", "names", "tinystories", "fineweb-edu"} < set(sources)


def test_an_address_is_of_one_version_and_a_file_is_known_to_the_byte():
    for published in PUBLISHED:
        assert re.search(r"^https://.*/[0-9a-f]{40}/", published.url)
        assert re.fullmatch(r"[0-9a-f]{64}", published.sha256) and published.size_bytes > 10**5
    assert len({published.name for published in PUBLISHED}) == len(PUBLISHED)


@pytest.mark.parametrize("published", [known.SHAKESPEARE, known.NAMES], ids=lambda each: each.name)
def test_the_real_file_is_the_published_one(
    published: known.Published,
    data_file: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.undo()  # the folder may be the one that NANOGPT_DATA names
    path = data_file(published.name)
    monkeypatch.setenv("NANOGPT_DATA", str(path.parent))
    corpus = open_corpus(published.source)
    assert corpus.running and corpus.identity == published.source
    whole = path.read_bytes()
    assert "".join(texts_of(published.source, documents=False)).encode() == whole
    assert len(whole) == published.size_bytes
    # What was tokenized under the path is found again under the name.
    assert corpus.fingerprint == open_corpus(f"text:{path}").fingerprint


def test_a_speech_and_a_name_are_documents_where_documents_are_asked_for(give: Callable[..., Path]):
    give(known.SHAKESPEARE, b"First:\nSpeak.\n\nAll:\nSpeak, speak.\n")
    give(known.NAMES, b"emma\nolivia")
    assert texts_of("shakespeare") == ["First:\nSpeak.", "All:\nSpeak, speak."]
    assert texts_of("names") == ["emma", "olivia"]
    assert "".join(texts_of("names", documents=False)) == "emma\nolivia"
    as_documents, running = open_corpus("names", documents=True), open_corpus("names")
    assert not as_documents.running and running.running
    assert as_documents.fingerprint != running.fingerprint


@pytest.mark.parametrize("documents", [True, False])
@pytest.mark.parametrize("at_once", [1, 5, 2**20])
def test_stories_lie_between_their_separators(
    give: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, documents: bool, at_once: int
):
    monkeypatch.setattr(known, "READ_AT_ONCE_BYTES", at_once)
    for part, source in {"train": "tinystories", "valid": "tinystories:valid"}.items():
        content = f"\n{part}: Zoë.\n<|endoftext|>\nTwo\n\nlines.\n<|endoftext|>\n"
        give(known.TINYSTORIES[part], content.encode())
        assert texts_of(source, documents=documents) == [f"{part}: Zoë.", "Two\n\nlines."]
        assert open_corpus(source).identity == source


def test_fineweb_edu_is_the_text_column_of_a_parquet_file(
    give: Callable[..., Path], tmp_path: Path
):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": ["one", "two"], "url": ["a", "b"]})
    parquet.write_table(table, tmp_path / "shard")
    give(known.FINEWEB_EDU, (tmp_path / "shard").read_bytes())
    assert texts_of("fineweb-edu") == ["one", "two"]


def test_without_pyarrow_nothing_of_fineweb_edu_is_downloaded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(http, "download", lambda *_, **__: pytest.fail("downloaded"))
    assert "[data]" in refusal(lambda: open_corpus("fineweb-edu"), MissingExtra)


@pytest.mark.parametrize("source", ["shakespeare:x", "names:x", "fineweb-edu:x", "tinystories:x"])
def test_an_argument_that_means_nothing_is_refused_before_any_file(source: str):
    assert source.partition(":")[0] in refusal(lambda: parse_source(source), ConfigError)


def test_what_is_neither_given_nor_kept_is_downloaded_once(
    publish: Callable[..., known.Published], monkeypatch: pytest.MonkeyPatch
):
    published = publish(known.NAMES, b"emma\nolivia")
    asked: list[dict[str, Any]] = []

    def download(url: str, path: Path, *, size: int | None, sha256: str | None) -> None:
        asked.append({"url": url, "path": path, "size": size, "sha256": sha256})
        path.parent.mkdir(parents=True)
        path.write_bytes(b"emma\nolivia")

    monkeypatch.setattr(http, "download", download)
    for _ in range(2):
        assert texts_of("names") == ["emma", "olivia"]
    kept = cache_directory() / "corpora" / "names.txt"
    assert asked == [{"url": published.url, "path": kept, "size": 11, "sha256": published.sha256}]


def test_the_folder_comes_before_the_cache_and_need_not_have_every_file(
    give: Callable[..., Path],
):
    path = give(known.NAMES, b"emma")
    kept = cache_directory() / "corpora" / "names.txt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"what is never read")
    assert texts_of("names", documents=False) == ["em", "ma"]
    kept.write_bytes(b"emma")
    path.unlink()
    assert texts_of("names", documents=False) == ["em", "ma"]


@pytest.mark.parametrize("content", [b"emmb", b"emma\n"])
def test_another_file_under_the_name_is_refused(give: Callable[..., Path], content: bytes):
    path = give(known.NAMES, b"emma")
    path.write_bytes(content)
    message = refusal(lambda: open_corpus("names"))
    assert str(path) in message and f"{len(content)} bytes" in message and "4 of" in message
    assert "text:PATH" in message


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.source)
def test_a_failed_download_says_where_the_file_can_be_put(published: known.Published):
    if published.name.endswith(".parquet"):
        pytest.importorskip("pyarrow")  # without it nothing is downloaded
    message = refusal(lambda: open_corpus(published.source))
    assert f"data.source={published.source} cannot be downloaded" in message
    assert f"{published.url} cannot be reached" in message
    assert f"NANOGPT_DATA=DIR with {published.name}" in message
    assert str(cache_directory() / "corpora" / published.name) in message


# No name can be looked up: that is what an unplugged machine sees, whatever library asks.
UNPLUGGED = """
import runpy, socket, sys
from nanogpt_jax.data.network import http

def unreachable(*_, **__):
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

socket.getaddrinfo = unreachable
http.RETRIES = http.Retries(0, 0.0)
sys.argv = ["main", "--config=configs/shakespeare_char.py", "--workdir={workdir}"]
runpy.run_module("nanogpt_jax.main", run_name="__main__")
"""


def test_shakespeare_char_without_network_and_file_ends_in_one_line(tmp_path: Path):
    without_data = {name: value for name, value in os.environ.items() if name != "NANOGPT_DATA"}
    ended = subprocess.run(
        [sys.executable, "-c", UNPLUGGED.format(workdir=tmp_path / "run")],
        cwd=REPOSITORY,
        env=without_data,
        capture_output=True,
        text=True,
        timeout=120,
    )
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1:] == errors
    assert "data.source=shakespeare cannot be downloaded" in errors[0]
    assert "NANOGPT_DATA=DIR with tinyshakespeare.txt" in errors[0]
    assert str(tmp_path / "cache" / "corpora" / "tinyshakespeare.txt") in errors[0]
