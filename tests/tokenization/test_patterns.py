"""Where text is cut: named patterns cut as they are known to, and any expression may be given."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.tokenization.bpe import byte_by_character, cut_at
from nanogpt_jax.tokenization.patterns import PATTERNS, is_pattern, regex_of

TRICKY = [
    "'LL",
    "'\u017f",
    "don't",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\u2028",
    "123456",
    "e\u0301",
    "!?",
    "_",
]
texts = st.lists(st.sampled_from(TRICKY) | st.text(max_size=4)).map("".join)


def pieces(pattern: str, text: str) -> list[str]:
    byte_of = byte_by_character()
    cut = cut_at(pattern).pre_tokenize_str(text)
    return [bytes(byte_of[character] for character in piece).decode() for piece, _ in cut]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("compact", ["It", "'LL", " be", " ", "12", "34", "5", ".\n\n", " ", " मराठी"]),
        ("gpt2", ["It", "'", "LL", " be", " 12345", ".", "\n\n ", " मर", "ा", "ठ", "ी"]),
        ("gpt4", ["It", "'LL", " be", " ", "123", "45", ".\n\n", " ", " मर", "ाठ", "ी"]),
        (r"\s", ["It'LL", " ", "be", " ", "12345.", "\n", "\n", " ", " ", "मराठी"]),
    ],
)
def test_a_pattern_cuts_where_it_is_known_to(pattern: str, expected: list[str]):
    assert pieces(pattern, "It'LL be 12345.\n\n  मराठी") == expected


@pytest.mark.parametrize("pattern", list(PATTERNS))
@given(text=texts)
def test_a_named_pattern_covers_every_text_and_cuts_as_another_engine_does(pattern: str, text: str):
    # Its Unicode is newer, so characters that have come since are left out.
    text = "".join(each for each in text if regex.match(r"[^\p{Cn}]", each))
    found = pieces(pattern, text)
    assert "".join(found) == text
    assert found == regex.findall(regex_of(pattern), text)


def test_named_patterns_differ():
    text = "It'LL be 12345.\n\n  मराठी"
    assert len({tuple(pieces(pattern, text)) for pattern in PATTERNS}) == len(PATTERNS) == 3


@pytest.mark.parametrize(
    "pattern, reason",
    [
        ("gtp4", "did you mean 'gpt4'?"),
        ("", "known: compact, gpt2, gpt4"),
        ("(", "unmatched parenthesis"),
        (r"\p{Foo}", "invalid character property name"),
    ],
)
def test_what_is_neither_a_name_nor_an_expression_is_refused(pattern: str, reason: str):
    assert not is_pattern(pattern)
    with pytest.raises(ConfigError) as error:
        regex_of(pattern)
    assert reason in str(error.value) and "tokenizer.pattern=" in str(error.value)


def test_names_and_expressions_are_accepted():
    assert is_pattern(r"\w+") and all(map(is_pattern, PATTERNS))
