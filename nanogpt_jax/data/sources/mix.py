"""`mix:0.7*SOURCE+0.3*SOURCE`: several corpora, each giving its share of the tokens.

What a source is, its own file says; here are only the shares.
"""

from __future__ import annotations

import hashlib
import re

from nanogpt_jax.data.corpus import Corpus, Mixture, Opening, Stream
from nanogpt_jax.data.sources import Opener, parse_source, require, sources
from nanogpt_jax.errors import ConfigError

FORM = "mix:SHARE*SOURCE+SHARE*SOURCE"
# A plus that no share follows belongs to a source.
NEXT_PART = re.compile(r"\+(?=\d*\.?\d+\*)")
PART = re.compile(r"(?P<share>\d*\.?\d+)\*(?P<source>.+)", re.DOTALL)


@sources
def mix(argument: str) -> Opener:
    """Several sources with their shares of the tokens; their own fields have their defaults."""
    require(argument, FORM)
    shares, openers, problems = [], [], []
    for written in NEXT_PART.split(argument):
        part = PART.fullmatch(written)
        if part is None or float(part["share"]) == 0:
            problems.append(f"data.source=mix: {written!r} is no part; {FORM} is required")
            continue
        shares.append(float(part["share"]))
        if part["source"].startswith("mix:"):
            problems.append(f"data.source=mix: {written!r} is a mixture; name its parts here")
            continue
        try:
            openers.append(parse_source(part["source"]))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)

    def open_parts(opening: Opening) -> Mixture:
        opened = [opener(opening) for opener in openers]
        parts = [part for part in opened if isinstance(part, Corpus | Stream)]
        mixed = [(share / sum(shares), part) for share, part in zip(shares, parts, strict=True)]
        key = " ".join(f"{share} {part.fingerprint}" for share, part in mixed)
        return Mixture(
            identity="mix:" + "+".join(f"{share:.4g}*{part.identity}" for share, part in mixed),
            fingerprint=hashlib.sha256(key.encode()).hexdigest(),
            parts=tuple(mixed),
        )

    return open_parts
