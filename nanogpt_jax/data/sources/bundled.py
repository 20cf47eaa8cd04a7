"""`bundled:tales`: the corpus that ships with the package, generated, never downloaded."""

from __future__ import annotations

import functools
import hashlib
from typing import Annotated

from nanogpt_jax.data.corpus import Corpus, Documents, Opening, Parts, Truth, code_digest, split_at
from nanogpt_jax.data.sources import Opener, sources, tales
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import non_negative, positive, unknown


@sources
def bundled(
    argument: str,
    *,
    stories: Annotated[int, "stories in the corpus, held-out ones included", positive] = 40_000,
    corpus_seed: Annotated[int, "seed of the stories", non_negative] = 0,
) -> Opener:
    """Small stories with exactly known probabilities; each story is a document."""
    if argument != "tales":
        raise ConfigError(unknown("data.source=bundled:", argument, ("tales",)))

    def read(val_fraction: float) -> Parts:
        texts, nats = _tell(stories, corpus_seed)
        cut = split_at(stories, val_fraction)
        return Parts(Documents(texts[:cut], nats[:cut]), Documents(texts[cut:], nats[cut:]))

    def open_tales(_: Opening) -> Corpus:
        # Without telling a story: the arguments, and every line of the grammar.
        key = f"tales {stories} {corpus_seed} {code_digest(tales)}"
        return Corpus(
            identity="bundled:tales",
            fingerprint=hashlib.sha256(key.encode()).hexdigest(),
            running=False,
            read=read,
            truth=Truth(tales.entropy_per_character(), tales.log_probability),
        )

    return open_tales


# Seconds of work that a tokenizer and the store ask for, one after the other.
@functools.lru_cache(maxsize=1)
def _tell(stories: int, corpus_seed: int) -> tuple[list[str], list[float]]:
    """The stories, and -log p of each."""
    told = [tales.story(index, corpus_seed) for index in range(stories)]
    return [text for text, _ in told], [-log_probability for _, log_probability in told]
