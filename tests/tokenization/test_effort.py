"""Expressions whose worst text takes too long are refused; those that the field uses are not."""

from __future__ import annotations

import pytest

from nanogpt_jax.tokenization.effort import too_dear
from nanogpt_jax.tokenization.patterns import PATTERNS, is_pattern

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    "pattern", [*PATTERNS.values(), LLAMA_3, O200K, "(?m:.)", "[a-z]+", r"[\]]+x", r"\x{41}+"]
)
def test_patterns_of_the_field_are_cheap(pattern: str):
    assert too_dear(pattern) is None


@pytest.mark.parametrize(
    "pattern, why",
    [
        (r"(a+)+$", "repeats a group"),
        (r"(?:a|aa)*b", "repeats a group"),
        (r"(?:a){1,40}", "repeats a group"),
        (r"a*a*a*b", "endless"),
        (r"(?:a+b|c)d+(?:e+)", "endless"),
        (r"a{1,}b{2,9999}c+", "endless"),
        (r"(a)\1", "refers"),
        (r"(?<n>a)\k<n>", "not understood"),
        (r"(?<=a)b", "not understood"),
        (r"\g<0>", "refers"),
        ("a" * 5000, "characters"),
        ("(a", "not closed"),
        ("a)", "not opened"),
    ],
)
def test_what_can_take_for_ever_is_named(pattern: str, why: str):
    reason = too_dear(pattern)
    assert reason and why in reason


def test_a_config_refuses_what_a_run_could_not_be_loaded_with():
    assert is_pattern(r"\p{L}+|\s+") and not is_pattern(r"(a+)+$")
