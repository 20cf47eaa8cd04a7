"""`hf://ORG/DATASET[@REVISION][?QUERY]`: a dataset of the Hugging Face hub, a row a document.

With `rows=` (or `limit=`) so many rows are brought and kept; without, the Parquet files of the
dataset are streamed and nothing is kept. No other form of data file is read.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os

from nanogpt_jax.data.corpus import Corpus, Documents, Opening, Parts, Stream, split_at
from nanogpt_jax.data.sources import Opener, sources
from nanogpt_jax.data.sources.hf import cache, rows, shards
from nanogpt_jax.data.sources.hf.selection import Knobs, Selection, parse, read_knobs
from nanogpt_jax.errors import DataError


@sources
def hf(argument: str) -> Opener:
    """A dataset of the Hugging Face hub: its Parquet files as a stream, or some of its rows."""
    return functools.partial(_open, parse(argument), f"hf:{argument}", read_knobs(os.environ))


def _open(selection: Selection, identity: str, knobs: Knobs, opening: Opening) -> Corpus | Stream:
    if selection.rows is None:
        return shards.open_stream(selection, identity, opening.bad)
    texts = _bring(selection, knobs, opening)
    if not any(text.strip() for text in texts):
        raise DataError(
            f"data.source={identity} has no text in the column {selection.column!r}; name another "
            "with column=, or a smaller offset="
        )
    # Rows that say nothing are no documents, but they are lines of the running text.
    kept = [text for text in texts if text.strip()] if opening.documents else ["\n".join(texts)]

    def read(val_fraction: float) -> Parts:
        if opening.documents:
            cut = split_at(len(kept), val_fraction)
            return Parts(Documents(kept[:cut]), Documents(kept[cut:]))
        cut = split_at(len(kept[0]), val_fraction)
        return Parts(Documents([kept[0][:cut]]), Documents([kept[0][cut:]]))

    fingerprint = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
    return Corpus(identity, fingerprint, running=not opening.documents, read=read)


def _bring(selection: Selection, knobs: Knobs, opening: Opening) -> list[str]:
    """The texts of the rows, from the cache or into it."""
    path = cache.path_of("texts", (*selection, knobs.endpoint))
    kept = cache.load(path, _read_texts)
    if kept is not None:
        return kept
    skipped = opening.bad.skipped
    if selection.revision is None:
        texts = list(rows.read_rows(selection, knobs, opening.bad))
    else:  # of which the rows API knows nothing
        texts = list(shards.read_rows(selection, opening.bad))
    # What was read with gaps must not be taken for the whole, and nothing is worth keeping.
    if opening.bad.skipped == skipped and any(text.strip() for text in texts):
        cache.save(path, json.dumps(texts).encode())
    return texts


def _read_texts(content: bytes) -> list[str]:
    texts = json.loads(content)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("a list of texts is required")
    return texts
