"""`bundled:tales`: the corpus that ships with the package, generated, never downloaded."""

from __future__ import annotations

import hashlib
import importlib.resources
from typing import Annotated

from nanogpt_jax.data.corpus import Corpus, Documents, Parts, Truth, tail
from nanogpt_jax.data.sources import sources, tales
from nanogpt_jax.errors import DataError
from nanogpt_jax.registry import non_negative, positive


@sources
def bundled(
    argument: str,
    documents: bool,
    *,
    stories: Annotated[int, "stories in the corpus, held-out ones included", positive] = 40_000,
    corpus_seed: Annotated[int, "seed of the stories", non_negative] = 0,
) -> Corpus:
    """Small stories with exactly known probabilities; each story is a document."""
    del documents  # stories are documents either way
    if argument != "tales":
        raise DataError(f"data.source=bundled:{argument}: bundled:tales is the one that exists")

    def read(val_fraction: float) -> Parts:
        cut = tail(stories, val_fraction)
        texts, nats = zip(
            *(tales.story(index, corpus_seed) for index in range(stories)), strict=True
        )
        return Parts(Documents(texts[:cut], nats[:cut]), Documents(texts[cut:], nats[cut:]))

    return Corpus(
        identity="bundled:tales",
        fingerprint=_fingerprint(stories, corpus_seed),
        running=False,
        read=read,
        truth=Truth(tales.entropy_per_character(), tales.log_probability),
    )


def _fingerprint(stories: int, corpus_seed: int) -> str:
    """Changes with the arguments and with any line of the grammar, without generating a story."""
    digest = hashlib.sha256(f"tales {stories} {corpus_seed}".encode())
    folder = importlib.resources.files(tales)
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(file.read_bytes())
    return digest.hexdigest()
