"""What can go wrong, and the exit code of each: the one table that every command uses.

An error says what was found, what is required, and the remedy. `exit_code_of` maps any exception
to the code its command ends with; nothing else in the project chooses an exit code.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path


class ExitCode(enum.IntEnum):
    """Every way in which a command can end."""

    DONE = 0
    FAILED = 1  # anything without a code of its own, a failed save included
    USAGE = 2  # command line or config
    NON_FINITE = 3
    NO_CHECKPOINT = 4  # none usable
    LOCKED = 5  # another process trains in this run directory
    MISMATCH = 6  # config, tokenizer or corpus differs from the run's
    STALLED = 7
    LEAK = 8  # loss below the entropy of the corpus
    INTERRUPTED = 130  # first signal: every finished step saved
    ABORTED = 131  # second signal within two seconds: nothing saved


class NanogptError(Exception):
    """An error whose message is for the user: commands print it without a traceback."""

    exit_code = ExitCode.FAILED


class ConfigError(NanogptError):
    """Every problem of a config or command line, found before a device or a file is touched."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(NanogptError):
    """A corpus that cannot be read, or is too small for what is asked of it."""


class TokenizerError(NanogptError):
    """Text that a tokenizer cannot encode, or a tokenizer file that cannot be used."""


class MissingExtra(NanogptError):
    """A feature needs a package of an extra that is not installed."""

    def __init__(self, feature: str, extra: str):
        super().__init__(
            f"{feature} needs the extra [{extra}]: NANOGPT_EXTRAS={extra} scripts/run CMD..., "
            f"or pip install 'nanogpt_jax[{extra}]'"
        )


class NonFinite(NanogptError):
    """A loss, gradient or state that is not finite."""

    exit_code = ExitCode.NON_FINITE


class NoCheckpoint(NanogptError):
    """No usable checkpoint where one is required."""

    exit_code = ExitCode.NO_CHECKPOINT


class Damaged(NoCheckpoint):
    """A checkpoint of which `file`, a path in its folder, is not what was saved as `step`."""

    def __init__(self, folder: Path, step: int, file: str, problem: str):
        super().__init__(f"{folder / file} is damaged: {problem}; use another step")
        self.step = step
        self.file = file
        self.problem = problem


class Locked(NanogptError):
    """Another process trains in this run directory."""

    exit_code = ExitCode.LOCKED


class Mismatch(NanogptError):
    """The run directory holds another model, tokenizer or corpus."""

    exit_code = ExitCode.MISMATCH


class Stalled(NanogptError):
    """A step made no progress in time."""

    exit_code = ExitCode.STALLED


class Leak(NanogptError):
    """A loss below the entropy of the corpus: the model sees what it should predict."""

    exit_code = ExitCode.LEAK


class Interrupted(NanogptError):
    """The first SIGINT or SIGTERM ended the run after its last finished step was saved."""

    exit_code = ExitCode.INTERRUPTED


def exit_code_of(error: BaseException) -> ExitCode:
    """The code of the table above for `error`."""
    if isinstance(error, NanogptError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED
