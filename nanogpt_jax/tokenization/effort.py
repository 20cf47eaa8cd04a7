"""What a regular expression can cost at worst, read from its text.

A tokenizer comes with a run, maybe from a stranger, and cuts what strangers write. Oniguruma tries
every way to divide a text among repetitions, so an expression is taken only if a piece of n
characters has at most about n^2 of them: repetitions of single characters, two without end in an
alternative, none of groups, and nothing that refers back. Every published pattern of a GPT is of
that form.
"""

from __future__ import annotations

import re

MOST_CHARACTERS = 4096
MOST_ENDLESS = 2
# {2,8} is eight characters written short, {1,999999} is as good as endless.
MOST_COUNTED = 16

_TOKEN = re.compile(
    r"""
    (?P<escape> \\ (?: [pP]\{\^?\w+\} | x\{[0-9A-Fa-f]+\} | x[0-9A-Fa-f]{1,2} | u[0-9A-Fa-f]{4}
                     | (?P<refers> [kgKX1-9] ) | . ) )
  | (?P<open> \( (?: \? (?: [imx-]+: | : | = | ! | > ) )? )
  | (?P<close> \) )
  | (?P<repeat> (?: [*+?] | \{ (?P<least>\d*) (?P<comma>,?) (?P<most>\d*) \} ) [?+]? )
  | (?P<or> \| )
  | (?P<atom> [^\\()\[\]*+?{|] )
    """,
    re.VERBOSE | re.DOTALL,
)


def too_dear(pattern: str) -> str | None:
    """Why `pattern` could take too long on some text, or None."""
    if len(pattern) > MOST_CHARACTERS:
        return f"it has {len(pattern)} characters, {MOST_CHARACTERS} are the most"
    # For each group that is open: endless repetitions so far, and the most of an alternative.
    here, most = [0], [0]
    place, group = 0, False
    while place < len(pattern):
        if pattern[place] == "[":
            place, group = _after_class(pattern, place), False
            continue
        found = _TOKEN.match(pattern, place)
        if found is None:
            return f"{pattern[place : place + 8]!r} is not understood"
        place = found.end()
        if found["refers"]:
            return f"{found['escape']!r} refers to another part of it"
        if found["open"]:
            if found["open"] == "(" and pattern.startswith("?", place):
                return f"{pattern[place - 1 : place + 3]!r} is not understood"
            here.append(0)
            most.append(0)
        elif found["close"]:
            if len(here) == 1:
                return "a parenthesis is closed that was not opened"
            inside = max(here.pop(), most.pop())
            here[-1] += inside
        elif found["or"]:
            most[-1], here[-1] = max(most[-1], here[-1]), 0
        elif found["repeat"] and not found["repeat"].startswith("?"):
            if group:
                return f"it repeats a group, with {found['repeat']!r}"
            bound = found["most"] or ("" if found["comma"] else found["least"])
            if not bound or int(bound) > MOST_COUNTED:
                here[-1] += 1
        if here[-1] > MOST_ENDLESS:
            return f"an alternative has more than {MOST_ENDLESS} endless repetitions"
        group = bool(found["close"])
    if len(here) > 1:
        return "a parenthesis is not closed"
    return None


def _after_class(pattern: str, place: int) -> int:
    """Where the class of characters that begins at `place` has ended."""
    depth = 0
    while place < len(pattern):
        if pattern[place] == "\\":
            place += 1
        elif pattern[place] == "[":
            depth += 1
        elif pattern[place] == "]":
            depth -= 1
            if depth == 0:
                return place + 1
        place += 1
    return place
