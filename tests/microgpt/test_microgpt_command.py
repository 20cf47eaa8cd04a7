"""The command: what it needs, what it refuses, and where it finds its names."""

import hashlib
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from nanogpt_jax.data.sources import known
from nanogpt_jax.microgpt import __main__ as command
from nanogpt_jax.microgpt import names

REPOSITORY = Path(__file__).resolve().parents[2]
FEW = b"anna\nbob\ncarla\n"


@pytest.fixture(autouse=True)
def _nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folder is given, and the cache is empty."""
    monkeypatch.delenv("NANOGPT_DATA", raising=False)
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that stands for names.txt at its public home."""
    path = tmp_path / "home" / "names.txt"
    path.parent.mkdir()
    path.write_bytes(FEW)
    monkeypatch.setattr(names, "URL", path.as_uri())
    monkeypatch.setattr(names, "SIZE_BYTES", len(FEW))
    monkeypatch.setattr(names, "SHA256", hashlib.sha256(FEW).hexdigest())
    return path


def run_without_libraries(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-m", "nanogpt_jax.microgpt", *flags],  # -S: no installed packages
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_the_scalar_engine_needs_no_library(tmp_path: Path):
    (tmp_path / "few.txt").write_bytes(FEW)
    ended = run_without_libraries(f"--input={tmp_path}/few.txt", "--num_steps=2", "--samples=1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.findall(r"step    2 /    2 \| loss \d\.\d{4}\n", ended.stdout)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--engine=torch"], "invalid choice: 'torch'"),
        (["--steps=3"], "unrecognized arguments: --steps=3"),
        (["--num_steps=many"], "--num_steps: invalid int value: 'many'"),
        (["--num_steps=0"], "--num_steps=0 is not positive; give at least 1"),
        (["--n_head=3"], "--n_embd=16 is not a multiple of --n_head=3"),
        (["--n_head=0"], "--n_head=0 is not positive; give at least 1"),
        (["--learning_rate=nan"], "--learning_rate=nan is not above 0 and at most 1"),
        (["--temperature=0"], "--temperature=0.0 is not a positive number"),
        (["--samples=-1"], "--samples=-1 is negative"),
        (["--last_target=first"], "--last_target: invalid choice: 'first'"),
        (["--seed=0", "--n_layer=-1", "--block_size=-2"], "--n_layer=-1 is not positive"),
        (["--input=nowhere.txt"], "nowhere.txt cannot be read"),
        (["--input="], "cannot be read"),
    ],
)
def test_a_wrong_value_is_one_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        command.main(flags)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(("content", "message"), [(b" \n\n", "is empty"), (b"\xff", "utf-8")])
def test_a_file_without_documents_is_refused(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(SystemExit):
        command.main([f"--input={path}"])
    assert message in capsys.readouterr().err


def test_offline_the_command_ends_with_one_line():
    ended = run_without_libraries(https_proxy="http://127.0.0.1:9")  # nobody listens there
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"error: {names.URL} cannot be read (") and "--input=FILE" in line


def test_names_are_fetched_once_and_then_kept(published: Path):
    assert names.read() == FEW.decode()
    published.unlink()
    assert names.read() == FEW.decode()
    [kept] = names.cache_directory().rglob("*.txt*")
    assert kept.read_bytes() == FEW


def test_a_file_in_the_given_folder_comes_first(
    published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    given = tmp_path / "given"
    given.mkdir()
    monkeypatch.setenv("NANOGPT_DATA", str(given))
    assert names.read() == FEW.decode()  # the folder has none: fetched
    (given / "names.txt").write_bytes(b"another")
    with pytest.raises(names.NoNames, match=r"given/names\.txt is not names\.txt: 7 bytes"):
        names.read()


@pytest.mark.parametrize("content", [FEW[:-1], FEW + b"dora\n", FEW.upper()])
def test_what_arrives_as_another_file_is_refused_and_not_kept(content: bytes, published: Path):
    published.write_bytes(content)
    with pytest.raises(names.NoNames, match=r"is not names\.txt"):
        names.read()
    assert list(names.cache_directory().rglob("*")) == []


def test_no_more_is_read_than_the_file_has(monkeypatch: pytest.MonkeyPatch, published: Path):
    published.write_bytes(FEW * 1000)
    with urllib.request.urlopen(published.as_uri()) as response:
        monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: response)
        assert len(names.fetch()) == len(FEW) + 1


def test_the_names_are_those_of_the_data_source():
    assert (names.URL, names.SIZE_BYTES, names.SHA256) == known.NAMES[2:]
