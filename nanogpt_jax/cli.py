"""The command line of a function: its signature is the schema, its annotations are the help.

    def main(*, workdir: Workdir, step: Step = "last", sampling: Sampling) -> None: ...

    if __name__ == "__main__":
        cli.run(main, __doc__)

A keyword is a flag, required unless it has a default; a positional parameter is an argument; a
dataclass brings one flag for each of its fields; `Overrides` takes every
`--config.SECTION.FIELD=VALUE`, which a schema reads later. The flags of jax and absl work beside
them. All problems of a command line are told at once, one line each, before anything else happens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
import re
import sys
import typing
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import jax
from absl import app, flags, logging

from nanogpt_jax import runtime
from nanogpt_jax.errors import ConfigError, ExitCode, NanogptError, exit_code_of
from nanogpt_jax.registry import Field, field_of, fields_of, unknown

Command = Callable[..., object]
Commands = Command | Mapping[str, Command]
Overrides = list[tuple[str, str]]  # (address, text) of every --config.ADDRESS=TEXT
Workdir = Annotated[Path, "run directory"]
Step = Annotated[str, "checkpoint: a number, last or best"]
Draft = Annotated[str, "guesses tokens ahead, the text is the same: lookup, or a smaller run"]

FLAG = re.compile(r"-+[^\W\d]")  # and -1 is a value
JAX_FLAGS = "jax's own flags work too, such as --jax_platforms=cpu and --jax_num_cpu_devices=8"


def run(commands: Commands, description: str | None) -> NoReturn:
    """Runs a command, or the one of several that the first word names, and ends the process.

    An error of ours, or of the file system, is one line a problem; others keep their traceback.
    """
    jax.config.config_with_absl()
    try:
        app.run(_call, flags_parser=lambda argv: bind(commands, argv[1:], description))
    except NanogptError as error:
        _end(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of stdout has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except OSError as error:
        _end(str(error), exit_code_of(error))
    except KeyboardInterrupt as error:
        sys.exit(exit_code_of(error))
    raise AssertionError("app.run never returns")


def _call(bound: Callable[[], object]) -> None:
    runtime.leave_out_cuda()
    runtime.keep_freed_memory()
    runtime.keep_programs()
    bound()
    sys.stdout.flush()  # here, where a closed pipe is no traceback


def _end(message: str, code: ExitCode) -> NoReturn:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


def bind(
    commands: Commands, words: Sequence[str], description: str | None = None
) -> Callable[[], object]:
    """The command that `words` ask for with the values they give it, not called yet.

    Raises one ConfigError with all problems; absl has its own flags afterwards.
    """
    if {"--help", "-help", "-h"} & {*words}:
        print(describe(commands, description))
        sys.exit(ExitCode.DONE)
    if isinstance(commands, Mapping):
        name, *words = words or [""]
        if name not in commands:
            raise ConfigError(unknown("command", name, commands))
        commands = commands[name]
    values, foreign, problems = Signature(commands).read(words)
    try:
        flags.FLAGS([sys.argv[0], *foreign])
    except flags.Error as error:
        problems.append(" ".join(str(error).split()))
    if problems:
        raise ConfigError(problems)
    return functools.partial(commands, **values)


class Signature:
    """What the parameters of a function say about its command line."""

    def __init__(self, command: Command):
        self.flags: dict[str, Field] = {}
        self.arguments: dict[str, Field] = {}
        self._groups: dict[str, type] = {}
        self._overrides: str | None = None
        hints = typing.get_type_hints(command, include_extras=True)
        for name, parameter in inspect.signature(command).parameters.items():
            hint = hints[name]
            if hint == Overrides:
                self._overrides = name
            elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
                self._groups[name] = hint
                self.flags |= fields_of(hint)
            elif parameter.kind is parameter.KEYWORD_ONLY:
                self.flags[name] = field_of(name, hint, parameter.default)
            else:
                self.arguments[name] = field_of(name, hint, parameter.default)

    def read(self, words: Sequence[str]) -> tuple[dict[str, Any], list[str], list[str]]:
        """The values of the parameters, the words that are absl's, and all problems."""
        switches = {name for name, field in self.flags.items() if field.kind is bool}
        switches |= {name for name in flags.FLAGS if flags.FLAGS[name].boolean}
        arguments, pairs = _split(words, switches)
        surplus = arguments[len(self.arguments) :]
        problems = [f"{word!r} is not understood; a flag is --NAME=VALUE" for word in surplus]
        texts: dict[str, str | None] = dict(zip(self.arguments, arguments, strict=False))
        overrides, foreign = [], []
        for name, text in pairs:
            if name in self.flags:
                texts[name] = text
            elif self._overrides and name.startswith("config."):
                overrides.append((name.removeprefix("config."), "true" if text is None else text))
            elif name in flags.FLAGS:
                foreign.append(f"--{name}" if text is None else f"--{name}={text}")
            else:
                problems.append(unknown("flag", f"--{name}", [f"--{flag}" for flag in self.flags]))

        values: dict[str, Any] = {}
        for name, field in (self.arguments | self.flags).items():
            shown, text = name.upper() if name in self.arguments else f"--{name}", texts.get(name)
            if text is not None:
                values[name], problem = _read(field, shown, text)
                problems += [problem] if problem else []
            elif name in texts or field.required:
                problems.append(f"{shown} needs a value: {field.meaning}")
        for name, kind in self._groups.items():
            own = fields_of(kind).keys() & values.keys()
            values[name] = kind(**{each: values.pop(each) for each in own})
        if self._overrides:
            values[self._overrides] = overrides
        return values, foreign, problems


def _read(field: Field, shown: str, text: str) -> tuple[Any, str | None]:
    try:
        value = field.parse(text)
    except ValueError as error:
        return None, f"{shown}={text!r}: {error}"
    return value, field.problem(shown, value)


def _split(
    words: Sequence[str], switches: Container[str]
) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Arguments, and flags with their texts: None where a flag that is no switch has none."""
    arguments: list[str] = []
    pairs: list[tuple[str, str | None]] = []
    queue = deque(words)
    while queue:
        word = queue.popleft()
        name, given, text = word.lstrip("-").partition("=")
        if not FLAG.match(word):
            arguments.append(word)
        elif given:
            pairs.append((name, text))
        elif name in switches:
            pairs.append((name, "true"))
        elif name.startswith("no") and (name[2:] in switches or name.startswith("noconfig.")):
            pairs.append((name[2:], "false"))
        elif queue and not FLAG.match(queue[0]):
            pairs.append((name, queue.popleft()))
        else:
            pairs.append((name, None))
    return arguments, pairs


def parse_pairs(flag: str, text: str) -> dict[str, Any]:
    """`partition=gpu,timeout_min=120` as a dict; numbers, true and false are what they say."""
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"{flag} has {part!r}; NAME=VALUE,NAME=VALUE is required")
        values[name.strip()] = {"true": True, "false": False}.get(value, value)
        with contextlib.suppress(ValueError):
            values[name.strip()] = int(value)
    return values


def describe(commands: Commands, description: str | None) -> str:
    """The help of a command: what it does, and a line for every flag."""
    named = commands if isinstance(commands, Mapping) else {"": commands}
    lines = [(description or "").strip()]
    for name, command in named.items():
        signature = Signature(command)
        arguments = [
            word.upper() if field.required else f"[{word.upper()}]"
            for word, field in signature.arguments.items()
        ]
        title = " ".join([name, *arguments, f"  {inspect.getdoc(command)}"]) if name else "flags:"
        lines += ["", title]
        shown = [_show(field) for field in signature.flags.values()]
        width = max(map(len, shown), default=0)
        for flag, field in zip(shown, signature.flags.values(), strict=True):
            required = " (required)" if field.required else ""
            lines.append(f"  {flag.ljust(width)}  {field.meaning}{required}")
    return "\n".join([*lines, "", JAX_FLAGS])


def _show(field: Field) -> str:
    if field.kind is bool:
        return f"--[no]{field.name}"
    default = "" if field.required else field.default
    return f"--{field.name}={default if default != '' else '...'}"


def quiet() -> None:
    """Only warnings on stderr: for commands whose result is what they print."""
    logging.set_verbosity(logging.WARNING)
