"""A chain of lines: each carries its number, and a SHA-256 of itself and of the line before it.

    {"step": 7, ..., "line": 12, "sha256": SHA-256(sha256 of line 11 + this line without its own)}

So a line that is changed, removed, inserted or moved shows. Whoever writes all lines from the
changed one on anew is found only by a hash that is kept elsewhere: a checkpoint keeps that of the
last line before it. Everything here is a pure function of bytes; no file is opened.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_SEALED = re.compile(rb'(\{.*"line":([1-9][0-9]{0,17})),"sha256":"([0-9a-f]{64})"\}\n')


class Link(NamedTuple):
    """A line as the next one sees it."""

    number: int  # from 1
    sha256: str


START = Link(0, "")  # what stands before the first line


class Broken(Exception):
    """The chain does not hold at the line of this number; the message says what happened there."""

    def __init__(self, number: int, what: str):
        super().__init__(f"line {number} {what}")


def seal(record: Mapping[str, object], before: Link) -> tuple[bytes, Link]:
    """The line of `record` after `before`, with its end, and its own link."""
    number = before.number + 1
    text = json.dumps({**record, "line": number}, separators=(",", ":"), allow_nan=False)
    body = text.encode()
    sha256 = _hash(before, body)
    return b'%b,"sha256":"%b"}\n' % (body[:-1], sha256.encode()), Link(number, sha256)


def link_of(line: bytes) -> Link | None:
    """What a line says about itself, unverified; None if it is no sealed line."""
    found = _SEALED.fullmatch(line)
    return found and Link(int(found[2]), found[3].decode())


def verify(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """The records of all lines, in order; raises Broken at the first that does not follow."""
    records, before = [], START
    for number, line in enumerate(lines, start=1):
        found = _SEALED.fullmatch(line)
        link = found and Link(number, _hash(before, found[1] + b"}"))
        if link is None or link != link_of(line):
            raise Broken(number, _explain(lines, number))
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise Broken(number, f"is sealed, but no JSON that can be read ({error})") from error
        before = link
    return records


def fold(before: str, sha256: str) -> str:
    """One hash for a sequence of them: `before` stands for those so far, "" for none."""
    return hashlib.sha256((before + sha256).encode()).hexdigest() if before else sha256


def bits_of(nats: float, tokens: float) -> str:
    """A mean loss by its bits, as `float.hex` writes them; equal only if both sums are."""
    return (nats / (tokens or 1.0)).hex()


def _hash(before: Link, body: bytes) -> str:
    return hashlib.sha256(before.sha256.encode() + body).hexdigest()


def _explain(lines: Sequence[bytes], number: int) -> str:
    """The likeliest reason why the line of this number does not follow, from all line numbers."""
    links = [link_of(line) for line in lines]
    here = links[number - 1]
    counts = Counter(link.number for link in links if link)
    if here is None:
        inserted = counts[number] > 0
        return "is inserted" if inserted else "is changed: it is no sealed line any more"
    if counts[here.number] > 1:
        return f"is inserted: {counts[here.number]} lines say that they are line {here.number}"
    if here.number == number:
        return "is changed: its hash is not of it and of the line before it"
    if counts[number]:
        return f"is reordered: it says that it is line {here.number}, and line {number} comes later"
    return f"is removed: a line that says it is line {here.number} stands in its place"
