"""The tales are what they claim: exact, unambiguous, reproducible, and out of a trigram's reach."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.data.sources import tales
from nanogpt_jax.data.sources.tales.algebra import (
    Alias,
    Choice,
    Draw,
    GrammarError,
    Mention,
    Node,
    Phrase,
    Text,
    Word,
)
from nanogpt_jax.data.sources.tales.engine import read_grammar
from nanogpt_jax.data.sources.tales.notation import read_lexicon, read_rules
from nanogpt_jax.data.sources.tales.words import LEXICONS

Story = tuple[str, float]


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return [tales.story(index, seed=1) for index in range(100_000)]


def split(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def tiny_grammar(**rules: str) -> Node:
    lexicons = {
        "person": read_lexicon("person", "Ann Bob", {"he": "they"}),
        "pet": read_lexicon("pet", "cat dog", {}),
    }
    return read_rules(rules, lexicons, start="story")


# What a story is


def test_a_story_depends_on_seed_and_index_only(stories: list[Story]) -> None:
    assert tales.story(7, seed=1) == stories[7]
    assert len({text for text, _ in stories[:1000]}) == 1000
    assert not {text for text, _ in stories[:1000]} & {tales.story(i, 2)[0] for i in range(1000)}


def test_the_book_is_the_same_on_every_machine(stories: list[Story]) -> None:
    digest = hashlib.sha256("\n".join(text for text, _ in stories[:1000]).encode()).hexdigest()
    assert digest == "9813a385f1a2353c1bfa186da4e4d32e6a4620968b5010987035ac7f1dc019b3"


@pytest.mark.parametrize(("index", "seed"), [(-1, 0), (0, -1), (2**64, 0)])
def test_numbers_that_would_repeat_other_stories_are_refused(index: int, seed: int) -> None:
    with pytest.raises(ValueError, match="count stories from 0"):
        tales.story(index, seed)


def test_every_story_fits_into_a_context_of_128_words(stories: list[Story]) -> None:
    bound = count_longest(read_grammar())
    assert max(len(split(text)) for text, _ in stories[:10_000]) <= bound <= 100


def count_longest(node: Node) -> int:
    match node:
        case Text(text):
            return len(split(text))
        case Phrase(nodes):
            return sum(map(count_longest, nodes))
        case Choice():
            return max(map(count_longest, node.branches))
        case Alias():
            return 0
        case _:
            return 1


def test_every_word_of_the_grammar_is_told(stories: list[Story]) -> None:
    told = set(split(" ".join(text for text, _ in stories)))
    assert {word for words in LEXICONS.values() for word in words.split()} <= told
    assert words_of(read_grammar()) <= told
    assert 400 <= len(told) <= 700


def words_of(node: Node) -> set[str]:
    match node:
        case Text(text):
            return set(split(text))
        case Phrase(nodes):
            return set().union(*map(words_of, nodes))
        case Choice():
            return set().union(*map(words_of, node.branches))
        case Draw() | Mention():
            return node.openings()
        case _:
            return set()


# What is known about it exactly


def test_the_closed_forms_agree_with_a_hundred_thousand_stories(stories: list[Story]) -> None:
    for closed_form, sample in (
        (tales.entropy_nats(), [-log_p for _, log_p in stories]),
        (tales.mean_characters(), [float(len(text)) for text, _ in stories]),
    ):
        assert abs(fmean(sample) - closed_form) < 3 * stdev(sample) / math.sqrt(len(sample))


def test_the_closed_forms_agree_with_summing_over_all_stories() -> None:
    grammar = tiny_grammar(
        story="1 {a=person} met <whom>. {owner.he} left with {owner}.",
        whom="3 a {b=pet}[owner=a]\n 1 {c=person} and {c}[owner=c]",
    )
    everything = list(derive_all(grammar, {}))
    assert len(everything) == 2 * (2 + 2)
    assert math.fsum(math.exp(log_p) for _, log_p, _ in everything) == pytest.approx(1.0)
    entropy = -math.fsum(math.exp(log_p) * log_p for _, log_p, _ in everything)
    length = math.fsum(math.exp(log_p) * len(text) for text, log_p, _ in everything)
    assert grammar.expect({}).nats == pytest.approx(entropy, rel=1e-12)
    assert grammar.expect({}).characters == pytest.approx(length, rel=1e-12)


Derivation = tuple[str, float, dict[str, Word]]


def derive_all(
    node: Node, bound: dict[str, Word], target: str | None = None
) -> Iterator[Derivation]:
    """Every derivation, by exhaustion and without a look at openings; or those of one text."""

    def fits(text: str) -> bool:
        return target is None or target.startswith(text)

    match node:
        case Text(text):
            if fits(text):
                yield text, 0.0, bound
        case Mention():
            text = bound[node.variable].forms[node.form]
            if fits(text):
                yield text, 0.0, bound
        case Alias():
            yield "", 0.0, bound | {node.variable: bound[node.source]}
        case Draw():
            kind = bound[node.unlike].kind if node.unlike else ""
            log_probabilities = node.options[kind].log_probabilities
            for word, log_p in zip(node.words[kind], log_probabilities, strict=True):
                if fits(word.forms[""]):
                    yield word.forms[""], log_p, bound | {node.variable: word}
        case Choice():
            for log_p, branch in zip(node.options.log_probabilities, node.branches, strict=True):
                for text, rest, end in derive_all(branch, bound, target):
                    yield text, log_p + rest, end
        case Phrase((first, *others)):
            for head, log_p, middle in derive_all(first, bound, target):
                if not others:
                    yield head, log_p, middle
                    continue
                rest_of_target = None if target is None else target[len(head) :]
                for tail, rest, end in derive_all(Phrase(others), middle, rest_of_target):
                    yield head + tail, log_p + rest, end


def test_a_story_has_one_derivation_and_its_probability_is_the_storys(stories: list[Story]) -> None:
    for text, log_p in stories[:1000]:
        complete = [d for d in derive_all(read_grammar(), {}, text) if d[0] == text]
        assert len(complete) == 1
        assert complete[0][1] == pytest.approx(log_p, abs=1e-9)


def test_the_parser_gives_the_samplers_own_probability(stories: list[Story]) -> None:
    for text, log_p in stories[:5000]:
        assert tales.log_probability(text) == log_p
        assert tales.explain_invalid(text) is None


def test_a_grammar_that_one_word_does_not_decide_is_refused() -> None:
    with pytest.raises(GrammarError, match="two options open with 'The'"):
        tiny_grammar(story="1 The end.\n 1 The beginning.")
    with pytest.raises(GrammarError, match="'cat'"):
        tiny_grammar(story="1 {a=pet} ran.\n 1 cat sat.")
    for unrecognisable in ("...", "[b=a]so"):
        with pytest.raises(GrammarError, match="only a word can be recognised"):
            tiny_grammar(story="1 {a=pet} <end>", end=f"1 slept.\n 1 {unrecognisable}")


def test_a_template_outside_the_notation_is_refused() -> None:
    for template in ("", "{a=pet", "{a = pet}", "<the end>"):
        with pytest.raises(GrammarError, match="is not in the notation"):
            tiny_grammar(story=f"1 {template}")


def test_a_grammar_that_may_mention_the_unknown_is_refused() -> None:
    with pytest.raises(GrammarError, match="'b' is mentioned"):
        tiny_grammar(story="1 <who> saw {b}.", who="1 a {b=pet}\n 1 nobody")


# What is not a story


@given(st.integers(0, 10_000))
def test_a_story_without_one_of_its_words_is_none_unless_the_word_was_an_adverb(index: int) -> None:
    text, _ = tales.story(index, seed=3)
    for word in re.finditer(r" \w+", text):
        if word[0].strip() not in LEXICONS["manner"].split():
            assert tales.log_probability(text[: word.start()] + text[word.end() :]) is None


@given(st.integers(0, 10_000))
def test_a_story_in_which_someone_is_called_by_another_name_is_none(index: int) -> None:
    text, _ = tales.story(index, seed=3)
    for names in (LEXICONS["girl"].split(), LEXICONS["boy"].split()):
        mentions = list(re.finditer("|".join(names), text))
        if len(mentions) > 1:
            other = next(name for name in names if name != mentions[0][0])
            for mention in mentions:
                changed = text[: mention.start()] + other + text[mention.end() :]
                assert tales.log_probability(changed) is None


@given(st.integers(0, 10_000))
def test_a_story_with_a_wrong_pronoun_or_article_is_none(index: int) -> None:
    text, _ = tales.story(index, seed=3)
    wrong = {"he": "she", "she": "he", "He": "She", "She": "He", "his": "her", "him": "her"}
    wrong |= {"a": "an", "an": "a", "it": "them", "them": "it", "these": "this", "are": "is"}
    for word in re.finditer(r"\b(" + "|".join(wrong) + r")\b", text):
        changed = text[: word.start()] + wrong[word[0]] + text[word.end() :]
        assert tales.log_probability(changed) is None


def test_a_story_that_ends_with_another_thing_is_none(stories: list[Story]) -> None:
    things = LEXICONS["single"].split()
    ends = [text for text, _ in stories[:1000] if re.search(r" the \w+ beside (his|her) ", text)]
    assert len(ends) > 20
    for text in ends:
        found = re.findall(r" the (\w+) beside (?:his|her) ", text)[-1]
        other = next(thing for thing in things if thing != found)
        changed = re.sub(rf" the {found} beside ", f" the {other} beside ", text)
        assert tales.log_probability(changed) is None


@pytest.mark.parametrize("text", ["", " ", "One", "Once upon a time.", "One rainy day \n"])
def test_other_texts_are_none(text: str) -> None:
    assert tales.log_probability(text) is None
    assert tales.explain_invalid(text)


def test_a_story_and_more_is_none(stories: list[Story]) -> None:
    text, _ = stories[0]
    assert tales.log_probability(text + " The end.") is None
    assert tales.log_probability(" " + text) is None
    assert tales.log_probability(text[:-1]) is None


def test_the_first_mistake_is_named(stories: list[Story]) -> None:
    text = next(text for text, _ in stories if re.match("One .* and there was", text))
    wrong = text.replace("and there was", "and there were")
    explanation = tales.explain_invalid(wrong)
    assert explanation == f"character {wrong.index('were')}: found 'were', expected 'was'"
    explanation = tales.explain_invalid(text.replace("One ", "Two ", 1))
    assert explanation and "found 'Two', expected one of" in explanation


# What it takes to learn it


def test_two_words_of_memory_stay_far_above_the_entropy(stories: list[Story]) -> None:
    bigram, trigram = measure_ngrams(stories[:20_000], stories[20_000:21_000])
    assert trigram > tales.entropy_per_character() + 0.15
    assert bigram > trigram + 0.1


def measure_ngrams(training: list[Story], held_out: list[Story]) -> tuple[float, float]:
    """Nats per character of a bigram and a trigram model, each interpolated with the shorter one.

    The weights are those of Witten and Bell (1991, doi:10.1109/18.87000, method C).
    """
    counts: list[Counter[tuple[str, ...]]] = [Counter(), Counter(), Counter()]
    for text, _ in training:
        words = ["<", "<", *split(text), ">"]
        for order, count in enumerate(counts):
            count.update(zip(*(words[2 - order + i :] for i in range(order + 1)), strict=False))
    totals: Counter[tuple[str, ...]] = Counter()
    kinds: Counter[tuple[str, ...]] = Counter()
    for count in counts:
        for gram, n in count.items():
            totals[gram[:-1]] += n
            kinds[gram[:-1]] += 1
    losses = [0.0, 0.0, 0.0]
    for text, _ in held_out:
        words = ["<", "<", *split(text), ">"]
        for end in range(2, len(words)):
            p = 0.0
            for order, count in enumerate(counts):
                gram = tuple(words[end - order : end + 1])
                seen, novel = totals[gram[:-1]], kinds[gram[:-1]]
                if seen:
                    p = (count[gram] + novel * p) / (seen + novel)
                losses[order] -= math.log(p)
    characters = sum(len(text) for text, _ in held_out)
    return losses[1] / characters, losses[2] / characters
