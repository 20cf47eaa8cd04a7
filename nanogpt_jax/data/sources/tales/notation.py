"""The notation of the rules in plots.py, and its translation into nodes.

A rule is a list of options, each a weight and a template; a line that does not begin with a weight
continues the one before it. In a template,

    <rule>                stands for the text of another rule
    {hero=girl|boy}       draws a word from these lexicons and calls it hero
    {=weather}            draws a word that nobody mentions again
    {friend unlike hero}  draws from the other of hero's lexicons, and calls it friend
    {hero} {hero.him}     mentions it again, plainly or in the form that agrees with it
    {hero.He}             the same with a capital
    [owner=friend]        prints nothing; from here on, owner is another name for friend

and everything else for itself.
"""

import re
from collections.abc import Mapping
from functools import cache

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

PART = re.compile(
    r"<(?P<rule>\w+)>"
    r"|{(?P<drawn>\w*)=(?P<lexicons>[\w|]+)}"
    r"|{(?P<other>\w+) unlike (?P<known>\w+)}"
    r"|{(?P<mentioned>\w+)(?:\.(?P<form>\w+))?}"
    r"|\[(?P<alias>\w+)=(?P<source>\w+)\]"
    r"|(?P<text>[^<>{}\[\]]+)"
)

NEW_OPTION = re.compile(r"\n\s*(?=\d)")
# Zipf's law in Mandelbrot's form (1953), with a shift that lets a short training meet every word.
RANK_SHIFT = 10.0

Lexicon = Mapping[Word, float]


def read_lexicon(kind: str, words: str, forms: Mapping[str, str]) -> Lexicon:
    """The words, frequent first, with weights 1 / (rank + RANK_SHIFT).

    Every form is also there under its capitalised name, capitalised.
    """
    capitals = {name.capitalize(): form.capitalize() for name, form in forms.items()}
    return {
        Word(kind, {"": word, **forms, **capitals}): 1 / (rank + RANK_SHIFT)
        for rank, word in enumerate(words.split(), start=1)
    }


def read_rules(rules: Mapping[str, str], lexicons: Mapping[str, Lexicon], start: str) -> Node:
    """The grammar whose stories are the texts of the rule `start`.

    Raises GrammarError when one word cannot decide a choice, or a mention may lack its referent.
    """
    domains = find_domains(rules, lexicons)

    def read_part(part: re.Match[str]) -> Node:
        match part.lastgroup:
            case "rule":
                return read_rule(part["rule"])
            case "lexicons":
                return Draw(part["drawn"], join(lexicons, part["lexicons"]))
            case "known":
                return Draw(part["other"], domains[part["known"]], unlike=part["known"])
            case "source":
                return Alias(part["alias"], part["source"])
            case "text":
                return Text(part["text"])
            case _:
                words = list(domains[part["mentioned"]])
                return Mention(part["mentioned"], part["form"] or "", words)

    def read_template(template: str) -> Node:
        parts = list(PART.finditer(template))
        if not parts or "".join(part[0] for part in parts) != template:
            raise GrammarError(f"{template!r} is not in the notation; notation.py describes it")
        nodes = [read_part(part) for part in parts]
        return nodes[0] if len(nodes) == 1 else Phrase(nodes)

    @cache
    def read_rule(name: str) -> Node:
        weights: list[float] = []
        branches: list[Node] = []
        for option in NEW_OPTION.split(rules[name].strip()):
            weight, *words = option.split()
            weights.append(float(weight))
            branches.append(read_template(" ".join(words)))
        if len(branches) == 1:
            return branches[0]
        return Choice(weights, branches)

    grammar = read_rule(start)
    grammar.expect({})  # raises where a mention may lack its referent
    return grammar


def join(lexicons: Mapping[str, Lexicon], names: str) -> dict[Word, float]:
    return {word: weight for name in names.split("|") for word, weight in lexicons[name].items()}


def find_domains(
    rules: Mapping[str, str], lexicons: Mapping[str, Lexicon]
) -> Mapping[str, Lexicon]:
    """For each variable, the words it can stand for anywhere in the grammar."""
    domains: dict[str, dict[Word, float]] = {}
    parts = [part for rule in rules.values() for part in PART.finditer(rule)]
    for part in parts:
        if part["lexicons"]:
            domains.setdefault(part["drawn"], {}).update(join(lexicons, part["lexicons"]))
    for part in parts:
        if source := part["known"] or part["source"]:
            domains.setdefault(part["other"] or part["alias"], {}).update(domains[source])
    return domains
