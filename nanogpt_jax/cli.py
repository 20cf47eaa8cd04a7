"""What the commands share: the command line, one-line errors, exit codes.

`--config.SECTION.FIELD=VALUE` is read here and not by absl, whose config flags answer a wrong name
with a traceback, one error at a time, and cannot follow a changed `.name`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging

from nanogpt_jax.errors import ConfigError, ExitCode, NanogptError, exit_code_of
from nanogpt_jax.registry import fields_of, unknown
from nanogpt_jax.sampling import Sampling

Assignments = list[tuple[str, str]]


def run(main: Callable[[list[str]], object], description: str | None) -> NoReturn:
    """Runs a command and ends the process with its exit code.

    `main` gets what absl leaves of the command line: positional arguments and config overrides.
    An error of ours is printed as it is, without a traceback; others keep theirs.
    """
    jax.config.config_with_absl()
    sys.modules["__main__"].__doc__ = description
    try:
        app.run(_guarded(main), flags_parser=_parse)
    except NanogptError as error:  # raised while flags were parsed
        _end(error)
    raise AssertionError("app.run never returns")


def _guarded(main: Callable[[list[str]], object]) -> Callable[[list[str]], None]:
    def guarded(argv: list[str]) -> None:
        try:
            main(argv[1:])
            sys.stdout.flush()
        except NanogptError as error:
            _end(error)
        except BrokenPipeError:  # the reader of stdout has enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(ExitCode.FAILED)
        except KeyboardInterrupt as error:
            sys.exit(exit_code_of(error))

    return guarded


def _end(error: NanogptError) -> NoReturn:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(error.exit_code)


def _parse(argv: list[str]) -> list[str]:
    """absl's parser, without the config overrides, and with one line for a wrong flag."""
    overrides = [word for word in argv[1:] if _is_override(word)]
    rest = [word for word in argv if not _is_override(word)]
    try:
        return [*flags.FLAGS(rest), *overrides]
    except flags.UnrecognizedFlagError as error:
        known = [name for name in flags.FLAGS if not name.startswith(("jax_", "test_"))]
        raise ConfigError(unknown("flag", f"--{error.flagname}", [f"--{n}" for n in known])) from (
            error
        )
    except flags.Error as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _is_override(word: str) -> bool:
    return word.lstrip("-").startswith(("config.", "noconfig.")) and word.startswith("-")


def assignments(words: Sequence[str]) -> Assignments:
    """`--config.a.b=1`, `--config.a.b` and `--noconfig.a.b` as (address, text) pairs."""
    pairs: Assignments = []
    problems = []
    for word in words:
        name, equals, text = word.lstrip("-").partition("=")
        if not _is_override(word):
            problems.append(
                f"{word!r} is not understood; overrides are --config.SECTION.FIELD=VALUE"
            )
        elif name.startswith("noconfig."):
            pairs.append((name.removeprefix("noconfig."), "false"))
        else:
            pairs.append((name.removeprefix("config."), text if equals else "true"))
    if problems:
        raise ConfigError(problems)
    return pairs


def define_run_flags() -> None:
    """`--workdir` and `--step`: which run, and which of its checkpoints."""
    flags.DEFINE_string("workdir", None, "run directory", required=True)
    flags.DEFINE_string("step", "last", "checkpoint: a number, last or best")


def workdir() -> Path:
    """The run directory that `--workdir` names."""
    return Path(flags.FLAGS.workdir).expanduser().resolve()


def define_sampling_flags() -> None:
    """One flag for each field of `Sampling`."""
    for field in fields_of(Sampling).values():
        define = flags.DEFINE_integer if field.kind is int else flags.DEFINE_float
        define(field.name, field.default, field.meaning)


def sampling() -> Sampling:
    """The `Sampling` that the flags describe; ConfigError with every value against its rules."""
    fields = fields_of(Sampling)
    values = {name: getattr(flags.FLAGS, name) for name in fields}
    problems = [field.problem(f"--{name}", values[name]) for name, field in fields.items()]
    if found := [problem for problem in problems if problem]:
        raise ConfigError(found)
    return dataclasses.replace(Sampling(), **values)


def quiet() -> None:
    """Only warnings on stderr: for commands whose result is what they print."""
    logging.set_verbosity(logging.WARNING)
