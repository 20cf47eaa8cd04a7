"""Questions about stories, as conversations with exactly one right answer each.

Who is asked for is read off the derivation, so the answer is certain. Stories of some pairs of
people are kept apart for the test: whoever answers there has not learned it by heart.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator

from nanogpt_jax.data.sources.tales.algebra import Tale
from nanogpt_jax.data.sources.tales.engine import tell

# Of so many pairs of people, one is in the test.
TESTED_PAIRS = 8
# What is asked of a story, and which of its words is the answer.
QUESTIONS = (
    ("Who is the story about?", "hero"),
    ("Who does {hero} meet?", "friend"),
    ("Who has the {thing} at last?", "owner"),
    ("Which thing is it about?", "thing"),
)


def conversation(tale: Tale, index: int) -> str:
    """Question `index` about a story, and its answer, as JSON."""
    words = {name: word.forms[""] for name, word in tale.bound.items() if name}
    question, answer = QUESTIONS[index % len(QUESTIONS)]
    messages = [
        {"role": "user", "content": f"{tale.text} {question.format(**words)}"},
        {"role": "assistant", "content": words[answer]},
    ]
    return json.dumps({"messages": messages})


def conversations(seed: int, tested: bool) -> Iterator[str]:
    """The questions of the test, or those to learn from, without end."""
    for index in itertools.count():
        tale = tell(index, seed)
        if is_tested(tale) == tested:
            yield conversation(tale, index)


def is_tested(tale: Tale) -> bool:
    """Whether a story is one of the test, which its two people decide."""
    pair = " ".join(sorted(tale.bound[name].forms[""] for name in ("hero", "friend")))
    return hashlib.sha256(pair.encode()).digest()[0] % TESTED_PAIRS == 0
