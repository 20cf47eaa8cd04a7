"""A probabilistic grammar with memory as six kinds of node, which are drawn, read and measured.

Every node does three things. `derive` writes its text, asking `choose` wherever there is a choice:
dice make it a sampler, a text that is looked up makes it a parser. `expect` gives the entropy and
the mean length of what `derive` would write. `openings` names the words its text can begin with: a
choice whose options share an opening is refused, so one word decides each choice and a text has at
most one derivation (the grammar is LL(1): Lewis and Stearns 1968, doi:10.1145/321466.321477).

The words that a story has bound decide later words, never later probabilities; the one exception is
`Draw.unlike`. There is no recursion of rules, and so no story without end.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

OPENING = re.compile(r"\W?\w+")  # a word, with the quotation mark before it


class GrammarError(ValueError):
    """The grammar itself is wrong: two options open alike, or a mention may have no referent."""


@dataclass(frozen=True, eq=False)
class Word:
    """An entry of a lexicon: its forms (the plain one is named "") and the lexicon's name."""

    kind: str
    forms: Mapping[str, str]


class Options:
    """A choice between numbered options, each of which is recognised by the word it opens with."""

    def __init__(self, weights: Sequence[float], openings: Iterable[Iterable[str]]):
        total = math.fsum(weights)
        self.probabilities = [weight / total for weight in weights]
        self.log_probabilities = [math.log(p) for p in self.probabilities]
        self.entropy_nats = -math.fsum(p * math.log(p) for p in self.probabilities)
        # Without the last bound no rounding can leave a draw beyond it.
        self.bounds = list(accumulate(self.probabilities))[:-1]
        self.by_opening: dict[str, int] = {}
        for index, words in enumerate(openings):
            for word in words:
                if not OPENING.fullmatch(word):
                    raise GrammarError(f"{word!r} is not one word; only a word can be recognised")
                if self.by_opening.setdefault(word, index) != index:
                    raise GrammarError(f"two options open with {word!r}; let them share one rule")

    def at(self, share: float) -> int:
        """The option that covers `share` of the unit interval."""
        return bisect_right(self.bounds, share)


Choose = Callable[[Options, str], int]  # given the options and the text so far


@dataclass(slots=True)
class Tale:
    """A story while it is being derived."""

    text: str = ""
    log_probability: float = 0.0
    bound: dict[str, Word] = field(default_factory=dict)


# For each variable that is bound on every path to here: how likely it is each word.
Beliefs = dict[str, dict[Word, float]]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Entropy and mean length of a text that is still to be derived."""

    nats: float = 0.0
    characters: float = 0.0

    def __add__(self, other: "Expectation") -> "Expectation":
        return Expectation(self.nats + other.nats, self.characters + other.characters)

    def __rmul__(self, share: float) -> "Expectation":
        return Expectation(share * self.nats, share * self.characters)


class Node(Protocol):
    def derive(self, tale: Tale, choose: Choose) -> None: ...
    def expect(self, beliefs: Beliefs) -> Expectation: ...
    def openings(self) -> set[str]: ...


def mean_length(belief: Mapping[Word, float], form: str) -> float:
    return math.fsum(p * len(word.forms[form]) for word, p in belief.items())


def mix(beliefs: Iterable[tuple[float, Mapping[Word, float]]]) -> dict[Word, float]:
    mixture: dict[Word, float] = {}
    for share, belief in beliefs:
        for word, p in belief.items():
            mixture[word] = mixture.get(word, 0.0) + share * p
    return mixture


@dataclass(frozen=True)
class Text:
    """The same characters in every story."""

    text: str

    def derive(self, tale: Tale, choose: Choose) -> None:
        tale.text += self.text

    def expect(self, beliefs: Beliefs) -> Expectation:
        return Expectation(0.0, len(self.text))

    def openings(self) -> set[str]:
        word = OPENING.match(self.text)
        return {word[0] if word else self.text}


@dataclass(frozen=True)
class Mention:
    """A word the story already knows, in the form the sentence needs: no choice at all."""

    variable: str
    form: str
    domain: Sequence[Word]

    def derive(self, tale: Tale, choose: Choose) -> None:
        tale.text += tale.bound[self.variable].forms[self.form]

    def expect(self, beliefs: Beliefs) -> Expectation:
        if self.variable not in beliefs:
            raise GrammarError(f"{self.variable!r} is mentioned where it may not be bound yet")
        return Expectation(0.0, mean_length(beliefs[self.variable], self.form))

    def openings(self) -> set[str]:
        return {word.forms[self.form] for word in self.domain}


@dataclass(frozen=True)
class Alias:
    """Another name for a bound variable, so that what follows need not know how it came about."""

    variable: str
    source: str

    def derive(self, tale: Tale, choose: Choose) -> None:
        tale.bound[self.variable] = tale.bound[self.source]

    def expect(self, beliefs: Beliefs) -> Expectation:
        beliefs[self.variable] = beliefs[self.source]
        return Expectation()

    def openings(self) -> set[str]:
        return {""}


class Draw:
    """A new word, bound to a variable; with `unlike`, of another kind than that variable's word."""

    def __init__(self, variable: str, words: Mapping[Word, float], unlike: str | None = None):
        self.variable, self.unlike = variable, unlike
        excluded_kinds = dict.fromkeys(word.kind if unlike else "" for word in words)
        self.words = {
            excluded: [word for word in words if word.kind != excluded]
            for excluded in excluded_kinds
        }
        self.options = {
            excluded: Options([words[word] for word in rest], [{word.forms[""]} for word in rest])
            for excluded, rest in self.words.items()
        }

    def derive(self, tale: Tale, choose: Choose) -> None:
        excluded = tale.bound[self.unlike].kind if self.unlike else ""
        options = self.options[excluded]
        index = choose(options, tale.text)
        word = tale.bound[self.variable] = self.words[excluded][index]
        tale.text += word.forms[""]
        tale.log_probability += options.log_probabilities[index]

    def expect(self, beliefs: Beliefs) -> Expectation:
        shares = dict.fromkeys(self.words, 0.0 if self.unlike else 1.0)
        if self.unlike:
            for word, p in beliefs[self.unlike].items():
                shares[word.kind] += p
        nats = math.fsum(p * self.options[excluded].entropy_nats for excluded, p in shares.items())
        beliefs[self.variable] = belief = mix(
            (p, dict(zip(self.words[excluded], self.options[excluded].probabilities, strict=True)))
            for excluded, p in shares.items()
        )
        return Expectation(nats, mean_length(belief, ""))

    def openings(self) -> set[str]:
        return {word.forms[""] for words in self.words.values() for word in words}


class Choice:
    """One of several ways to go on."""

    def __init__(self, weights: Sequence[float], branches: Sequence[Node]):
        self.branches = branches
        self.options = Options(weights, [branch.openings() for branch in branches])

    def derive(self, tale: Tale, choose: Choose) -> None:
        index = choose(self.options, tale.text)
        tale.log_probability += self.options.log_probabilities[index]
        self.branches[index].derive(tale, choose)

    def expect(self, beliefs: Beliefs) -> Expectation:
        total = Expectation(self.options.entropy_nats)
        ends: list[tuple[float, Beliefs]] = []
        for share, branch in zip(self.options.probabilities, self.branches, strict=True):
            end = dict(beliefs)
            total += share * branch.expect(end)
            ends.append((share, end))
        # Choices are independent of each other, so afterwards each belief is a plain mixture.
        for variable in set.intersection(*(set(end) for _, end in ends)):
            beliefs[variable] = mix((share, end[variable]) for share, end in ends)
        return total

    def openings(self) -> set[str]:
        return set(self.options.by_opening)


@dataclass(frozen=True)
class Phrase:
    """One node after the other."""

    nodes: Sequence[Node]

    def derive(self, tale: Tale, choose: Choose) -> None:
        for node in self.nodes:
            node.derive(tale, choose)

    def expect(self, beliefs: Beliefs) -> Expectation:
        return sum((node.expect(beliefs) for node in self.nodes), Expectation())

    def openings(self) -> set[str]:
        first, *rest = self.nodes
        if isinstance(first, Text) and rest and not OPENING.match(first.text):
            return {first.text + opening for opening in Phrase(rest).openings()}
        return first.openings()
