"""The one table of exit codes, and that every error of ours is in it."""

import pytest

from nanogpt_jax import errors
from nanogpt_jax.errors import ConfigError, ExitCode, MissingExtra, NanogptError, exit_code_of

TABLE = {
    "DONE": 0,
    "FAILED": 1,
    "USAGE": 2,
    "NON_FINITE": 3,
    "NO_CHECKPOINT": 4,
    "LOCKED": 5,
    "MISMATCH": 6,
    "STALLED": 7,
    "LEAK": 8,
    "INTERRUPTED": 130,
    "ABORTED": 131,
}
CODES = {
    "ConfigError": 2,
    "DataError": 1,
    "TokenizerError": 1,
    "MissingExtra": 1,
    "NonFinite": 3,
    "NoCheckpoint": 4,
    "Locked": 5,
    "Mismatch": 6,
    "Stalled": 7,
    "Leak": 8,
    "Interrupted": 130,
}


def test_the_exit_codes_are_those_of_the_table():
    assert {code.name: code.value for code in ExitCode} == TABLE


def test_every_error_has_its_code_and_says_what_it_is():
    kinds = NanogptError.__subclasses__()
    ours = {kind.__name__: kind for kind in kinds if kind.__module__ == "nanogpt_jax.errors"}
    assert {name: int(kind.exit_code) for name, kind in ours.items()} == CODES
    assert all(kind.__doc__ for kind in ours.values())


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (OSError(), 1)])
def test_an_error_that_is_not_ours_has_a_code_too(error: BaseException, code: int):
    assert exit_code_of(error) == code


def test_an_error_of_ours_has_the_code_of_its_kind():
    assert exit_code_of(errors.Leak("a leak")) == ExitCode.LEAK == 8


def test_a_config_error_holds_its_problems_and_says_them_one_a_line():
    error = ConfigError(["first", "second"])
    assert (error.problems, str(error)) == (["first", "second"], "first\nsecond")
    assert ConfigError("only").problems == ["only"]


def test_a_missing_extra_is_named_with_the_command_that_brings_it():
    told = str(MissingExtra("a plot", "viz"))
    assert told.startswith("a plot needs the extra [viz]: NANOGPT_EXTRAS=viz scripts/run")
