"""Tokens of a corpus, encoded once: memory-mapped arrays in a cache shared between runs.

The key is what decides the tokens: corpus fingerprint, tokenizer hash, split and form. A folder is
written under a temporary name and renamed, so a reader sees all of it or nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nanogpt_jax.data.corpus import Corpus, Documents
from nanogpt_jax.tokenization import Tokenizer

FORMAT = 1
# Documents handed to the tokenizer at once: enough to use its threads, little memory.
ENCODE_DOCUMENTS = 4096


class Tokens(NamedTuple):
    """One part of a corpus as tokens.

    `ids` is the whole part in order; a document begins with the tokenizer's BOS and ends where the
    next begins (`starts` has one entry more than documents). `characters` and `bytes` count each
    document's text; `nats` are its exact -log p, NaN where unknown.
    """

    ids: np.ndarray
    starts: np.ndarray
    characters: np.ndarray
    bytes: np.ndarray
    nats: np.ndarray

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.starts) - 1


class Store(NamedTuple):
    """Both parts; `running` text has no BOS and is one document."""

    train: Tokens
    val: Tokens
    running: bool


def cache_directory() -> Path:
    """`NANOGPT_CACHE`, else nanogpt_jax in the user's cache folder."""
    if given := os.environ.get("NANOGPT_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nanogpt_jax"


def open_store(corpus: Corpus, tokenizer: Tokenizer, val_fraction: float) -> Store:
    """The tokens of `corpus`, from the cache or encoded into it."""
    key = (FORMAT, corpus.fingerprint, tokenizer.sha256, val_fraction, corpus.running)
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    directory = cache_directory() / "tokens" / name
    if not directory.is_dir():
        _write(directory, corpus, tokenizer, val_fraction)
    train, val = (_open(directory / part) for part in ("train", "val"))
    return Store(train, val, corpus.running)


def _open(directory: Path) -> Tokens:
    return Tokens(*(np.load(directory / f"{name}.npy", mmap_mode="r") for name in Tokens._fields))


def _write(directory: Path, corpus: Corpus, tokenizer: Tokenizer, val_fraction: float) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=directory.parent))
    try:
        for name, part in zip(("train", "val"), corpus.read(val_fraction), strict=True):
            (temporary / name).mkdir()
            for field, array in _encode(part, tokenizer, corpus.running)._asdict().items():
                np.save(temporary / name / f"{field}.npy", array)
        try:
            temporary.rename(directory)
        except OSError:
            if not directory.is_dir():  # else another run has just written the same
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _encode(part: Documents, tokenizer: Tokenizer, running: bool) -> Tokens:
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    bos = np.array([] if running else [tokenizer.bos_id], dtype)
    pieces: list[np.ndarray] = []
    lengths: list[int] = [0]
    for first in range(0, len(part.texts), ENCODE_DOCUMENTS):
        for ids in tokenizer.encode_batch(part.texts[first : first + ENCODE_DOCUMENTS]):
            pieces += [bos, np.asarray(ids, dtype)]
            lengths.append(len(bos) + len(ids))
    nats = part.nats if part.nats is not None else [np.nan] * len(part.texts)
    return Tokens(
        ids=np.concatenate(pieces) if pieces else np.zeros(0, dtype),
        starts=np.cumsum(lengths),
        characters=np.array([len(text) for text in part.texts], np.int64),
        bytes=np.array([len(text.encode()) for text in part.texts], np.int64),
        nats=np.asarray(nats, np.float64),
    )
