"""What ships with the package: generated or written here, never downloaded.

`bundled:tales` are small stories with exactly known probabilities, `bundled:questions` are
conversations about them, for chat tuning. `bundled:facts` and `bundled:dialogues` are the few
sentences that RustGPT's recipe learns by heart.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import random
from collections.abc import Sequence
from typing import Annotated

from nanogpt_jax.data.corpus import (
    Corpus,
    Documents,
    Opening,
    Parts,
    Truth,
    code_digest,
    split_at,
)
from nanogpt_jax.data.sources import Opener, rustgpt_texts, sources, tales
from nanogpt_jax.data.sources.tales import questions
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import non_negative, positive, unknown

WRITTEN = {"facts": rustgpt_texts.FACTS, "dialogues": rustgpt_texts.DIALOGUES}
NAMES = ("tales", "questions", *WRITTEN)


@sources
def bundled(
    argument: str,
    *,
    stories: Annotated[int, "stories or questions, held-out ones included", positive] = 40_000,
    corpus_seed: Annotated[int, "seed of the stories", non_negative] = 0,
    shuffle_answers: Annotated[
        bool, "questions: give each the answer to another one, to see what a model cannot learn"
    ] = False,
) -> Opener:
    """`tales` of exactly known probability, `questions` about them, `facts` and `dialogues`."""
    if argument not in NAMES:
        raise ConfigError(unknown("data.source=bundled:", argument, NAMES))
    if argument in WRITTEN:
        return _open_written(argument, WRITTEN[argument])

    def read(val_fraction: float) -> Parts:
        if argument == "tales":
            return _read_tales(stories, corpus_seed, val_fraction)
        return _read_questions(stories, corpus_seed, val_fraction, shuffle_answers)

    def open_bundled(_: Opening) -> Corpus:
        # Without telling a story: the arguments, and every line of the grammar.
        key = f"{argument} {stories} {corpus_seed} {shuffle_answers} {code_digest(tales)}"
        return Corpus(
            identity=f"bundled:{argument}",
            fingerprint=hashlib.sha256(key.encode()).hexdigest(),
            running=False,  # stories are documents, whatever is asked for
            read=read,
            truth=(
                Truth(tales.entropy_per_character(), tales.log_probability)
                if argument == "tales"
                else None
            ),
        )

    return open_bundled


def _open_written(name: str, texts: Sequence[str]) -> Opener:
    """Where nothing is held out, what is measured is what is learned: by heart, that is the aim."""

    def read(val_fraction: float) -> Parts:
        cut = split_at(len(texts), val_fraction)
        return Parts(Documents(texts[:cut]), Documents(texts[cut:] or texts))

    corpus = Corpus(
        identity=f"bundled:{name}",
        fingerprint=hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        running=False,
        read=read,
    )
    return lambda _: corpus


def _read_tales(stories: int, corpus_seed: int, val_fraction: float) -> Parts:
    texts, nats = _tell(stories, corpus_seed)
    cut = split_at(stories, val_fraction)
    return Parts(Documents(texts[:cut], nats[:cut]), Documents(texts[cut:], nats[cut:]))


# Seconds of work that a tokenizer and the store ask for, one after the other.
@functools.lru_cache(maxsize=1)
def _tell(stories: int, corpus_seed: int) -> tuple[list[str], list[float]]:
    """The stories, and -log p of each."""
    told = [tales.story(index, corpus_seed) for index in range(stories)]
    return [text for text, _ in told], [-log_probability for _, log_probability in told]


def _read_questions(
    stories: int, corpus_seed: int, val_fraction: float, shuffle_answers: bool
) -> Parts:
    """Held-out questions are about other stories and other pairs of people."""
    cut = split_at(stories, val_fraction)
    train, test = (
        list(itertools.islice(questions.conversations(corpus_seed, tested), count))
        for tested, count in ((False, cut), (True, stories - cut))
    )
    return Parts(Documents(_shuffled(train) if shuffle_answers else train), Documents(test))


def _shuffled(conversations: Sequence[str]) -> list[str]:
    """The same questions, each with the answer to one of them all."""
    messages = [json.loads(text)["messages"] for text in conversations]
    roll = random.Random(0).random  # the one sequence that no version of Python changes
    answers = sorted((answer for _, answer in messages), key=lambda _: roll())
    return [
        json.dumps({"messages": [question, answer]})
        for (question, _), answer in zip(messages, answers, strict=True)
    ]
