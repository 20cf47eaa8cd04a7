"""Where a text is cut before bytes are merged: named patterns, or any regular expression.

Merges stay inside a piece. The first alternative that fits wins; what none covers is a piece too,
so no pattern loses text. Expressions are Oniguruma's, which the tokenizers library uses; the named
ones mean the same in tiktoken's dialect.
"""

from __future__ import annotations

import re

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import Rule, unknown
from nanogpt_jax.tokenization.effort import too_dear

DEFAULT = "compact"

# Spaces but the last, which belongs to the word that follows; then spaces at the end.
_SPACES = (r"\s+(?!\S)", r"\s+")
_ALTERNATIVES = {
    # Of gpt4's family, for small vocabularies and all scripts.
    "compact": (
        "['\u2019](?i:s|t|d|m|ll|ve|re)",  # the endings of English contractions
        r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+",  # a word, with the space or sign before it
        r"\p{N}{1,2}",  # two digits: a small vocabulary has no room for the thousand triples
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",  # punctuation, with the line break after it
        r"\s*[\r\n]+",
        *_SPACES,
    ),
    # Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
    "gpt2": (
        "'(?:s|t|d|m|ll|ve|re)",
        r" ?\p{L}+",
        r" ?\p{N}+",
        r" ?[^\s\p{L}\p{N}]+",
        *_SPACES,
    ),
    # What tiktoken calls cl100k_base.
    "gpt4": (
        "'(?i:s|t|d|m|ll|ve|re)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        *_SPACES,
    ),
}
PATTERNS = {name: "|".join(alternatives) for name, alternatives in _ALTERNATIVES.items()}
# As an expression, a word would cut nothing but itself out of a text: it is a name, or a misprint.
_NAME = re.compile(r"[\w-]*")


def regex_of(pattern: str) -> str:
    """The regular expression that a name stands for, or that `pattern` is; else ConfigError."""
    from tokenizers import Regex

    if _NAME.fullmatch(pattern):
        if pattern not in PATTERNS:
            raise ConfigError(unknown("tokenizer.pattern", pattern, PATTERNS))
        return PATTERNS[pattern]
    try:
        Regex(pattern)
    except Exception as error:  # the library has no exception of its own
        raise ConfigError(f"tokenizer.pattern={pattern!r}: {error}") from error
    if reason := too_dear(pattern):
        raise ConfigError(
            f"tokenizer.pattern={pattern!r} could take for ever on some texts: {reason}; repeat "
            "single characters or classes, at most two of them without end"
        )
    return pattern


def is_pattern(pattern: str) -> bool:
    """Whether `pattern` is a name or a regular expression."""
    try:
        regex_of(pattern)
    except ConfigError:
        return False
    return True


known_pattern = Rule(f"be {', '.join(PATTERNS)} or an Oniguruma regular expression", is_pattern)
