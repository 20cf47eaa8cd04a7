"""The tokenizer command as its user meets it: a process, its output and its exit code."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt_jax import cli, tokenization
from nanogpt_jax.data.sources import bundled
from nanogpt_jax.errors import ConfigError, DataError, ExitCode
from nanogpt_jax.tokenization.patterns import PATTERNS
from nanogpt_jax.tokenizer import COMMANDS, read

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


def test_it_writes_the_same_file_whatever_the_hash_seed_and_the_number_of_threads(corpus: Path):
    outputs = [corpus.parent / "new" / f"{seed}.json" for seed in (1, 2)]
    for seed, output in enumerate(outputs):
        flags = [f"--corpus={corpus}", "--vocab_size=270", f"--output={output}"]
        ended = run("train", *flags, PYTHONHASHSEED=str(seed), RAYON_NUM_THREADS=str(2 * seed + 1))
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
    flags = ["--kind=char", f"--corpus={corpus}", "--vocab_size=1", f"--output={output}"]
    cli.bind(COMMANDS, ["train", *flags])()
    assert tokenization.load(output).kind == "char"


def test_it_learns_from_any_source_of_data(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundled, "_tell", lambda stories, seed: (["abba", "cab"], [1.0, 1.0]))
    assert list(read("bundled:tales")) == ["abba", "cab"]
    text = corpus.read_bytes().decode()
    assert list(read(f"text:{corpus}")) == list(read(str(corpus))) == [text]


@pytest.mark.parametrize(
    "arguments, reasons",
    [
        (["train", "--corpsu=x"], ["'--corpus'", "--corpus", "--vocab_size", "--output"]),
        (["train", "--corpus={corpus}", "--output={out}"], ["--vocab_size needs a value"]),
        (["train", "--corpus={corpus}", "--vocab_size=many", "--output={out}"], ["many"]),
        (["train", "--corpus={corpus}", "--vocab_size=256", "--output={out}"], ["at least 257"]),
        (
            ["train", "--corpus={corpus}", "--vocab_size=300", "--output={out}", "--kind=bp"],
            ["did you mean 'bpe'?"],
        ),
        (
            ["train", "--corpus={corpus}", "--vocab_size=300", "--output={out}", "--pattern=("],
            ["--pattern='(' must be compact, gpt2, gpt4 or an Oniguruma regular expression"],
        ),
        (
            ["train", "--corpus=x", "--vocab_size=9", "--output=y", "--kind=word", "--events"],
            ["--kind=word has no such steps"],
        ),
        (["trian"], ["did you mean 'train'?"]),
        (["--corpus={corpus}", "--vocab_size=300", "--output={out}"], ["known: export, train"]),
    ],
)
def test_a_wrong_command_line_is_told_whole_before_a_file_is_read(
    arguments: list[str], reasons: list[str], corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nanogpt_jax.tokenizer.read", None)
    output = corpus.parent / "tokenizer.json"
    with pytest.raises(ConfigError) as told:
        cli.bind(COMMANDS, [each.format(corpus=corpus, out=output) for each in arguments])()
    for line, reason in zip(told.value.problems, reasons, strict=True):
        assert reason in line
    assert not output.exists()


@pytest.mark.parametrize("name, reason", [("missing", "No such file"), ("empty", "no text in it")])
def test_a_corpus_that_is_no_text_is_a_failure_in_one_line(name: str, reason: str, corpus: Path):
    (corpus.parent / "empty").touch()
    flags = [f"--corpus={corpus.parent / name}", "--vocab_size=300", f"--output={corpus}.json"]
    with pytest.raises(DataError, match=reason) as told:
        cli.bind(COMMANDS, ["train", *flags])()
    assert "\n" not in str(told.value) and not Path(f"{corpus}.json").exists()


def test_a_file_that_cannot_be_written_is_a_failure_in_one_line(corpus: Path):
    flags = [f"--corpus={corpus}", "--vocab_size=270", f"--output={corpus}/tokenizer.json"]
    ended = run("train", *flags)
    assert ended.returncode == ExitCode.FAILED
    assert str(corpus) in ended.stderr and ended.stderr.count("\n") == 1


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict]:
    """The lines of JSON that a command prints."""
    cli.bind(COMMANDS, [*map(str, arguments)])()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_events_are_lines_of_json_and_the_same_file_is_written(
    corpus: Path, capsys: pytest.CaptureFixture[str]
):
    output, quietly = corpus.parent / "tokenizer.json", corpus.parent / "quiet.json"
    flags = ["train", f"--corpus={corpus}", "--vocab_size=272", "--min_pair_count=3"]
    events = told(capsys, *flags, f"--output={output}", "--events")
    names = ["bpe_training_started", "bpe_training_completed", "tokenizer_saved"]
    assert [event["event"] for event in events] == names
    tokenizer, text = tokenization.load(output), corpus.read_bytes().decode()
    assert events[-1] == {
        "event": "tokenizer_saved",
        "vocab_size": 272,
        "output": str(output),
        "sha256": tokenizer.sha256,
        "bytes_per_token": corpus.stat().st_size / len(tokenizer.encode(text)),
    }
    with_merges = told(capsys, *flags, f"--output={output}", "--merges")
    assert [with_merges[0], *with_merges[-2:]] == events
    assert {event["event"] for event in with_merges[1:-2]} == {"bpe_training_merge"}
    assert len(with_merges) == 3 + 15
    cli.bind(COMMANDS, [*flags, f"--output={quietly}"])()
    assert quietly.read_bytes() == output.read_bytes()


def test_options_of_a_tokenizer_are_flags(corpus: Path):
    output = corpus.parent / "tokenizer.json"
    flags = ["train", f"--corpus={corpus}", "--vocab_size=280", f"--output={output}"]
    cli.bind(COMMANDS, [*flags, "--pattern=gpt4", "--special_tokens=chat"])()
    content = output.read_text()
    assert len(tokenization.load(output).special_ids) == 12
    assert json.dumps(PATTERNS["gpt4"]) in content


def test_ranks_are_exported_with_what_tiktoken_needs_besides(
    corpus: Path, capsys: pytest.CaptureFixture[str]
):
    output = corpus.parent / "tokenizer.json"
    flags = [f"--corpus={corpus}", "--vocab_size=270", f"--output={output}"]
    cli.bind(COMMANDS, ["train", *flags])()
    capsys.readouterr()
    ranks = corpus.parent / "new" / "ours.tiktoken"
    (rest,) = told(capsys, "export", f"--tokenizer={output.parent}", f"--output={ranks}")
    assert rest == {"pat_str": PATTERNS["compact"], "special_tokens": {"<|bos|>": 269}}
    assert len(ranks.read_text().splitlines()) == 269


def test_every_command_of_the_page_about_tokenizers_runs(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    page = (REPOSITORY / "docs" / "tokenizers.md").read_text()
    found = re.findall(r"^python -m nanogpt_jax\.tokenizer ((?:.*\\\n)*.*)$", page, re.MULTILINE)
    assert len(found) >= 4
    monkeypatch.chdir(corpus.parent)
    (corpus.parent / "corpus.txt").rename("TEXT")
    for command in found:
        cli.bind(COMMANDS, shlex.split(command.replace("\\\n", "")))()


def test_the_python_of_the_page_about_tokenizers_runs(tmp_path: Path):
    page = (REPOSITORY / "docs" / "tokenizers.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(programs) == 2
    corpus = ["It's the first of many lines, and a short one.\n" * 9]
    options = tokenization.Options(special_tokens="chat")
    tokenization.train("bpe", corpus, 290, options).save(tmp_path / "chat" / "tokenizer.json")
    with contextlib.chdir(tmp_path):
        cli.bind(COMMANDS, ["export", "--tokenizer=chat", "--output=chat/ranks.tiktoken"])()
        for program in programs:
            exec(compile(program, "docs/tokenizers.md", "exec"), {})
