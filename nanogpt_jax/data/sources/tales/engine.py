"""What the tales are for: draw a story, score one, say what is wrong with one, know the entropy.

Drawing and scoring run one derivation, here on dice and there on a text, so they cannot differ.
It stores nothing and knows no tokens; a probability is always its natural logarithm.
"""

import itertools
import random
from functools import cache

from nanogpt_jax.data.sources.tales.algebra import OPENING, Expectation, Node, Options, Tale
from nanogpt_jax.data.sources.tales.notation import read_lexicon, read_rules
from nanogpt_jax.data.sources.tales.plots import RULES
from nanogpt_jax.data.sources.tales.words import FORMS, LEXICONS

INDEX_BITS = 64


@cache
def read_grammar() -> Node:
    lexicons = {kind: read_lexicon(kind, w, FORMS.get(kind, {})) for kind, w in LEXICONS.items()}
    return read_rules(RULES, lexicons, start="story")


@cache
def measure() -> Expectation:
    return read_grammar().expect({})


def story(index: int, seed: int) -> tuple[str, float]:
    """The story with this number in the endless book `seed`, and its natural-log probability."""
    tale = tell(index, seed)
    return tale.text, tale.log_probability


def tell(index: int, seed: int) -> Tale:
    """The same story with what its words are bound to.

    Depends on nothing else: `random.Random.random` keeps its sequence across Python versions.
    """
    if seed < 0 or not 0 <= index < 1 << INDEX_BITS:
        raise ValueError(
            f"seed={seed}, index={index}: both must be at least 0 and index below 2**{INDEX_BITS}; "
            "count stories from 0"
        )
    roll = random.Random(seed << INDEX_BITS | index).random
    tale = Tale()
    read_grammar().derive(tale, lambda options, _: options.at(roll()))
    return tale


def log_probability(text: str) -> float | None:
    """The exact natural-log probability of a story, or None for a text that is not one."""
    tale, options = retell(text)
    return tale.log_probability if tale.text == text and options is None else None


def explain_invalid(text: str) -> str | None:
    """Where a text first ceases to be a story and what could stand there; None for a story."""
    tale, options = retell(text)
    if tale.text == text and options is None:
        return None
    common = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(tale.text, text, strict=False)
    )
    at = sum(1 for _ in common)
    while at and text[at - 1].isalnum():  # a difference inside a word is one of the whole word
        at -= 1
    found = OPENING.match(text, at)
    if at == len(tale.text) and options is not None:
        allowed = sorted(options.by_opening)
        expected = f"one of {len(allowed)} words such as {', '.join(allowed[:4])}"
    else:
        word = OPENING.match(tale.text, at)
        expected = repr(word[0] if word else tale.text[at:])
    return f"character {at}: found {(found[0] if found else text[at:])!r}, expected {expected}"


def entropy_nats() -> float:
    """The entropy of a story: what a perfect model loses on one, on average."""
    return measure().nats


def mean_characters() -> float:
    """The mean length of a story."""
    return measure().characters


def entropy_per_character() -> float:
    """The floor under every model's loss: entropy of a story over its mean length, in nats."""
    return entropy_nats() / mean_characters()


class UnknownWordError(Exception):
    """A text goes on with a word that opens none of these options."""

    def __init__(self, options: Options):
        self.options = options


def retell(text: str) -> tuple[Tale, Options | None]:
    """The one story that the text can be, derived as far as the text agrees to choose.

    Returns it with the options that the text fails to choose from, None if it is complete.
    """

    def look_up(options: Options, told: str) -> int:
        word = OPENING.match(text, len(told))
        if not word or word[0] not in options.by_opening:
            raise UnknownWordError(options)
        return options.by_opening[word[0]]

    tale = Tale()
    try:
        read_grammar().derive(tale, look_up)
    except UnknownWordError as stop:
        return tale, stop.options
    return tale, None
