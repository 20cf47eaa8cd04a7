"""Talk to a run that was tuned on conversations, or on RustGPT's plain dialogues.

python -m nanogpt_jax.chat --workdir=DIR [--step=N|last|best] [--system="..."]
    [--max_tokens=200] [--temperature=0.8] [--top_k=40] [--top_p=0.95] [--seed=1]
    [--min_p=0.05] [--repetition_penalty=1.1]

/temperature X, /top_k N, /seed N and so on change how it answers; /reset forgets what was said;
/quit, exit or the end of input ends it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated

from nanogpt_jax import cli, experiment
from nanogpt_jax.errors import ConfigError, NanogptError
from nanogpt_jax.generate import Generator
from nanogpt_jax.registry import fields_of, positive, unknown
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.slots import Proposer
from nanogpt_jax.stops import write
from nanogpt_jax.tokenization.chat import Message, render
from nanogpt_jax.tokenization.special import end_of

COMMANDS = ("/reset", "/quit", *(f"/{name}" for name in fields_of(Sampling)))


class Chat:
    """A conversation with a run: what was said, and how it answers."""

    def __init__(
        self,
        run: experiment.Loaded,
        system: str,
        max_tokens: int,
        sampling: Sampling,
        proposer: Proposer | None = None,
    ):
        self._run = run
        self._start = [Message("system", system)] if system else []
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._proposer = proposer
        self._generator = Generator(run.model, run.shape.max_seq_len)
        self._params = self._generator.prepare(run.params)
        self._stop = self._ends()
        self.reset()

    def reset(self) -> None:
        """Forget what was said."""
        self.messages = list(self._start)

    def set(self, name: str, text: str) -> None:
        """Change one setting of `Sampling`; ConfigError where it cannot be `text`."""
        field = fields_of(Sampling)[name]
        try:
            value = field.parse(text)
        except ValueError as error:
            raise ConfigError(f"/{name} {text}: {error}") from error
        if problem := field.problem(f"/{name}", value):
            raise ConfigError(problem)
        self._sampling = dataclasses.replace(self._sampling, **{name: value})

    def answer(self, text: str) -> Iterator[str]:
        """The answer to `text` as it is written; both are remembered.

        When they no longer fit into the context beside an answer, at most half of it, the oldest
        turns are forgotten. Raises
        TokenizerError when a character has no token, and then remembers nothing.
        """
        tokenizer = self._run.tokenizer
        said = [*self.messages, Message("user", text)]
        context = self._run.shape.max_seq_len
        room = context - min(self._max_tokens, context // 2)
        prompt = render(tokenizer, said, reply=True).ids.tolist()
        while len(prompt) > room and len(said) > len(self._start) + 1:
            del said[len(self._start) : len(self._start) + 2]
            prompt = render(tokenizer, said, reply=True).ids.tolist()
        written = []
        for piece in self._write(prompt, self._max_tokens):
            written.append(piece)
            yield piece
        self.messages = [*said, Message("assistant", "".join(written))]

    def _ends(self) -> frozenset[int]:
        """The ids that end an answer."""
        tokenizer = self._run.tokenizer
        return frozenset({tokenizer.special_id(end_of("assistant")), tokenizer.bos_id})

    def _write(self, prompt: list[int], max_tokens: int) -> Iterator[str]:
        """What follows `prompt`, piece by piece."""
        stream = self._generator.stream(
            self._params,
            prompt,
            self._sampling,
            max_tokens=max_tokens,
            stop=self._stop,
            proposer=self._proposer,
        )
        yield from write((drawn.token for drawn in stream), self._run.tokenizer.decoder())


class PlainChat(Chat):
    """RustGPT's form: each question on its own, as the text `User: ...`, and nothing remembered.

    The model writes `Assistant:` itself. What it has no words for is an empty question, and gets
    an empty answer, as does one that fills the context.
    """

    def answer(self, text: str) -> Iterator[str]:
        """The answer to `text` as it is written."""
        prompt = experiment.prompt_tokens(self._run, f"User: {text}")
        room = self._run.shape.max_seq_len - len(prompt) if prompt else 0
        yield from self._write(prompt, min(self._max_tokens, room))

    def _ends(self) -> frozenset[int]:
        return self._run.tokenizer.stop_ids


def open_chat(
    run: experiment.Loaded, system: str, max_tokens: int, sampling: Sampling, draft: str = ""
) -> Chat:
    """A chat in the form that the run has learned: texts without BOS are plain dialogues."""
    form = Chat if run.plan.data.bos else PlainChat
    if system and form is PlainChat:
        raise ConfigError(
            f"--system={system!r}: plain dialogues have a user and an assistant; leave it out"
        )
    return form(run, system, max_tokens, sampling, experiment.open_drafts(draft, run))


def main(
    *,
    workdir: cli.Workdir,
    step: cli.Step = "last",
    system: Annotated[str, "what the assistant is told beforehand"] = "",
    max_tokens: Annotated[int, "tokens of an answer at most", positive] = 200,
    draft: cli.Draft = "",
    sampling: Sampling,
) -> None:
    """Reads a line, streams the answer, and again."""
    cli.quiet()
    chat = open_chat(experiment.load(workdir, step), system, max_tokens, sampling, draft)
    for line in _lines():
        try:
            if line.lower() in ("exit", "/quit"):
                return
            if line.startswith("/"):
                _obey(chat, line)
            else:
                for piece in chat.answer(line):
                    print(piece, end="", flush=True)
                print()
        except NanogptError as error:
            print(error, file=sys.stderr)


def _lines() -> Iterator[str]:
    """What is typed, line by line; a prompt only for people."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line:
            yield line


def _obey(chat: Chat, line: str) -> None:
    name, _, text = line.partition(" ")
    if name == "/reset":
        chat.reset()
    elif name in COMMANDS:
        chat.set(name.removeprefix("/"), text.strip())
    else:
        raise ConfigError(unknown("command", name, COMMANDS))


if __name__ == "__main__":
    cli.run(main, __doc__)
