"""The tokenizer command as its user meets it: a process, its output and its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt_jax import tokenization
from nanogpt_jax.errors import ExitCode

REPOSITORY = Path(__file__).resolve().parents[1]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nanogpt_jax.tokenizer", *map(str, arguments)]
    env = os.environ | environment
    return subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=REPOSITORY, timeout=60
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_bytes("A small Größe,\r\na small world, a small word.\n".encode() * 20)
    return path


def test_it_writes_the_same_file_whatever_the_hash_seed(corpus: Path):
    outputs = [corpus.parent / "new" / f"{seed}.json" for seed in (1, 2)]
    for seed, output in enumerate(outputs):
        flags = [f"--corpus={corpus}", "--vocab_size=270", f"--output={output}"]
        ended = run("train", *flags, PYTHONHASHSEED=str(seed))
        assert (ended.returncode, ended.stderr) == (0, "")
        tokenizer = tokenization.load(output)
        n_bytes, n_tokens = (
            corpus.stat().st_size,
            len(tokenizer.encode(corpus.read_bytes().decode())),
        )
        assert f"{n_bytes / n_tokens:.3f} bytes per token" in ended.stdout
        assert "270 tokens, of which 13 merges" in ended.stdout
        assert f"sha256 {tokenizer.sha256}" in ended.stdout
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_it_trains_the_other_kind(corpus: Path):
    output = corpus.parent / "char.json"
    ended = run(
        "train", "--kind=char", f"--corpus={corpus}", "--vocab_size=1", f"--output={output}"
    )
    assert ended.returncode == 0
    assert tokenization.load(output).kind == "char"


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["train", "--corpsu=x"], "'corpsu'"),
        (["train", "--corpus={corpus}"], "--vocab_size"),
        (["train", "--corpus={corpus}", "--vocab_size=many", "--output={out}"], "many"),
        (["train", "--corpus={corpus}", "--vocab_size=256", "--output={out}"], "at least 257"),
        (["train", "--corpus={out}", "--vocab_size=300", "--output={out}"], "No such file"),
        (["train", "--corpus={empty}", "--vocab_size=300", "--output={out}"], "is empty"),
        (["--corpus={corpus}", "--vocab_size=300", "--output={out}"], "`train`"),
    ],
)
def test_a_wrong_command_line_ends_with_one_line_and_code_2(
    arguments: list[str], reason: str, corpus: Path
):
    output, empty = corpus.parent / "tokenizer.json", corpus.parent / "empty.txt"
    empty.touch()
    ended = run(*(each.format(corpus=corpus, out=output, empty=empty) for each in arguments))
    assert ended.returncode == ExitCode.USAGE
    assert reason in ended.stderr and ended.stderr.count("\n") == 1
    assert ended.stdout == "" and not output.exists()


def test_a_file_that_cannot_be_written_is_a_failure_in_one_line(corpus: Path):
    flags = [f"--corpus={corpus}", "--vocab_size=270", f"--output={corpus}/tokenizer.json"]
    ended = run("train", *flags)
    assert ended.returncode == ExitCode.FAILED
    assert str(corpus) in ended.stderr and ended.stderr.count("\n") == 1
