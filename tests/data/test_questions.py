"""Questions about tales: one right answer each, and a test that nobody can know by heart."""

import itertools
import json
from collections import Counter

import pytest

from nanogpt_jax.data.corpus import Corpus
from nanogpt_jax.data.sources.tales import questions
from nanogpt_jax.data.sources.tales.engine import log_probability, tell
from tests.opened import open_corpus

COUNT = 600


def read(corpus: Corpus) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Questions and answers of training, and those of the test."""
    train, test = (
        [
            (question["content"], answer["content"])
            for question, answer in (json.loads(text)["messages"] for text in part.texts)
        ]
        for part in corpus.read(0.2)
    )
    return train, test


@pytest.fixture(scope="module")
def asked() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return read(open_corpus("bundled:questions", stories=COUNT))


def story_of(content: str) -> str:
    """What stands before the question: the question is the last sentence."""
    end = max(content.rfind(f"{mark} ") for mark in ('."', '!"', '?"', ".", "!", '"'))
    story = content[: end + 1]
    return story if log_probability(story) is not None else content[: end + 2].strip()


def test_every_question_is_about_a_possible_story_that_holds_the_answer(asked):
    train, test = asked
    assert (len(train), len(test)) == (480, 120)
    for content, answer in train + test:
        story = story_of(content)
        assert log_probability(story) is not None, content
        assert answer in story


def test_the_answers_are_those_of_the_derivation():
    tale = next(tell(index, 0) for index in itertools.count() if "loser" in tell(index, 0).bound)
    words = {name: word.forms[""] for name, word in tale.bound.items() if name}
    for number, (question, answer) in enumerate(questions.QUESTIONS):
        user, assistant = json.loads(questions.conversation(tale, number))["messages"]
        assert user["content"] == f"{tale.text} {question.format(**words)}"
        assert assistant == {"role": "assistant", "content": words[answer]}


def test_stories_and_pairs_of_people_of_the_test_are_in_no_training_question():
    drawn = {
        tested: [index for index in range(3000) if questions.is_tested(tell(index, 0)) == tested]
        for tested in (True, False)
    }
    assert 0.05 < len(drawn[True]) / 3000 < 0.2
    seen, kept_back = (
        {frozenset(tell(i, 0).bound[name] for name in ("hero", "friend")) for i in drawn[tested]}
        for tested in (False, True)
    )
    assert kept_back and not seen & kept_back
    texts = {tested: {tell(i, 0).text for i in drawn[tested]} for tested in drawn}
    assert not texts[True] & texts[False]


def test_every_kind_of_question_is_asked_alike(asked):
    train, _ = asked
    openings = Counter(content.rsplit(" ", 6)[-1] for content, _ in train)
    assert openings["about?"] == pytest.approx(COUNT * 0.8 / 2, rel=0.2)  # two kinds end so
    assert len({answer for _, answer in train}) > 30


def test_shuffled_answers_are_the_same_answers_to_other_questions(asked):
    train, test = asked
    shuffled, same_test = read(
        open_corpus("bundled:questions", stories=COUNT, shuffle_answers=True)
    )
    assert [question for question, _ in shuffled] == [question for question, _ in train]
    assert Counter(answer for _, answer in shuffled) == Counter(answer for _, answer in train)
    right = sum(one == other for one, other in zip(shuffled, train, strict=True))
    assert right / len(train) < 0.15
    assert same_test == test
