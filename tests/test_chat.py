"""The chat command: a tuned run answers, remembers, obeys and survives what is typed."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nanogpt_jax import cli, experiment
from nanogpt_jax.chat import Chat, main, open_chat
from nanogpt_jax.errors import ConfigError, TokenizerError
from nanogpt_jax.experiment import default_config, resolve
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.train import train
from tests.runs import ANSWERS, CHAT, tuned_run

REPOSITORY = Path(__file__).resolve().parents[1]
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned three answers by heart."""
    folder = tmp_path_factory.mktemp("chat")
    tuned_run(folder)
    return folder / "run"


FLAGS = ("--temperature=0", "--max_tokens=8")
Talk = Callable[[Path, str], tuple[list[str], list[str]]]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    """The lines of stdout and stderr of a chat in which this was typed, in this process."""

    def say(workdir: Path, typed: str) -> tuple[list[str], list[str]]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        capsys.readouterr()
        cli.bind(main, [f"--workdir={workdir}", *FLAGS])()
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    return say


def test_training_measures_exact_answers(tuned: Path):
    metrics = read_metrics(tuned / "metrics.jsonl")
    assert metrics[60]["val/exact_answers"] == 1
    assert "val/exact_answers" not in metrics[0], "an untrained model is not asked"


def test_it_answers_line_by_line_and_ends_with_the_input(tuned: Path):
    command = [sys.executable, "-m", "nanogpt_jax.chat", f"--workdir={tuned}", *FLAGS]
    done = subprocess.run(
        command,
        input="one?\n\nthree?\n",
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "two\none\n", "")


def test_it_ends_when_told(tuned: Path, talk: Talk):
    assert talk(tuned, "one?\n/quit\ntwo?\n") == (["two"], [])
    for end in ("exit", "EXIT"):
        assert talk(tuned, f"{end}\ntwo?\n") == ([], [])


def test_what_cannot_be_is_an_error_line_and_not_the_end(tuned: Path, talk: Talk):
    typed = "Ж?\n/temperature -1\n/temperture 1\n/top_k x\n/seed\ntwo?\n"
    lines, told = talk(tuned, typed)
    assert lines == ["three"]
    assert len(told) == 5
    for line, part in zip(
        told, ("'Ж'", "at least 0", "'/temperature'", "type int", "type int"), strict=True
    ):
        assert part in line


@pytest.mark.slow
def test_a_run_without_a_chats_tokens_is_refused(tmp_path: Path, talk: Talk):
    (tmp_path / "text.txt").write_text("abc\n" * 100)
    values = {"data.source": f"text:{tmp_path}/text.txt", **CHAT, "data.format": "stream"}
    values |= {"tokenizer.special_tokens": "bos", "train.steps": 0, "model.d_model": 4}
    plan = resolve(default_config(model="gpt"), [(name, str(v)) for name, v in values.items()])
    train(plan, tmp_path / "run")
    with pytest.raises(TokenizerError, match="special_tokens=chat"):
        talk(tmp_path / "run", "Hi.\n")


def test_what_was_said_is_remembered_until_it_is_reset(tuned: Path):
    chat = Chat(experiment.load(tuned), "", 6, GREEDY)
    assert "".join(chat.answer("one?")) == "two"
    assert [message.content for message in chat.messages] == ["one?", "two"]
    with pytest.raises(TokenizerError):
        list(chat.answer("Ж"))
    assert len(chat.messages) == 2
    chat.reset()
    assert chat.messages == []


def test_the_oldest_turns_are_forgotten_when_the_context_is_full(tuned: Path):
    chat = Chat(experiment.load(tuned), "two", 6, GREEDY)
    for question in ("one?", "two?", "three?"):
        list(chat.answer(question))
    said = [message.content for message in chat.messages]
    assert said[0] == "two", "the system's message is kept"
    assert said[-2] == "three?" and "one?" not in said


def test_an_answer_that_could_fill_the_context_leaves_half_of_it_to_what_was_said(tuned: Path):
    chat = Chat(experiment.load(tuned), "", 200, GREEDY)
    list(chat.answer("one?"))
    list(chat.answer("o"))
    assert [message.content for message in chat.messages][::2] == ["one?", "o"]


@pytest.mark.slow
def test_drafts_change_no_answer(tuned: Path):
    plain = open_chat(experiment.load(tuned), "", 6, GREEDY)
    drafted = open_chat(experiment.load(tuned), "", 6, GREEDY, draft=str(tuned))
    for question in ANSWERS:
        assert list(drafted.answer(question)) == list(plain.answer(question))


def test_settings_change_while_talking(tuned: Path):
    chat = Chat(experiment.load(tuned), "", 6, Sampling(temperature=100.0, seed=1))
    wild = "".join(chat.answer("one?"))
    chat.reset()
    chat.set("temperature", "0")
    assert "".join(chat.answer("one?")) == "two" != wild
    with pytest.raises(ConfigError, match="at least 0"):
        chat.set("top_k", "-1")
