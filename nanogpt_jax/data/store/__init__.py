"""Tokens of a corpus, encoded once: memory-mapped arrays in a cache shared between runs.

A tokenizer that is learned from a corpus is kept beside them. The key is what decides the content:
fingerprints, tokenizer hash, split and form. Everything is written under a temporary name and
renamed, so a reader sees all of it or nothing. Nothing is ever removed: the cache may be deleted.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from nanogpt_jax import tokenization
from nanogpt_jax.data.corpus import Corpus, Documents, Parts, code_digest
from nanogpt_jax.tokenization import Tokenizer

FORMAT = 2
# Texts handed to the tokenizer at once: enough for its threads, little memory.
ENCODED_AT_ONCE = 512
# Running text is encoded in pieces of about so many characters, for the same two reasons.
PIECE_CHARACTERS = 2**14
# Where a piece may end: no tokenizer worth using merges across, and a test holds ours to it.
LINE_END = re.compile(r"\n(?=\S)")


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
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nanogpt_jax"


def open_tokenizer(corpus: Corpus, kind: str, vocab_size: int, val_fraction: float) -> Tokenizer:
    """The tokenizer of `kind` learned from `corpus`, from the cache or learned into it."""
    code = (code_digest(tokenization), importlib.metadata.version("tokenizers"))
    name = _key(code, corpus.fingerprint, kind, vocab_size, val_fraction, corpus.running)
    path = cache_directory() / "tokenizers" / f"{name}.json"
    if path.is_file():
        tokenizer, how = tokenization.load(path), "as learned before"
    else:
        train, val = corpus.read(val_fraction)
        # An alphabet is no secret of the held-out part; merges are learned without it.
        texts = itertools.chain(train.texts, val.texts if kind == "char" else ())
        tokenizer, how = tokenization.train(kind, texts, vocab_size), "learned now"
        tokenizer.save(path)
    logging.info("tokenizer of %s, %s: %s", corpus.identity, how, tokenizer.describe())
    return tokenizer


def open_store(corpus: Corpus, tokenizer: Tokenizer, val_fraction: float) -> Store:
    """The tokens of `corpus`, from the cache or encoded into it."""
    name = _key(FORMAT, corpus.fingerprint, tokenizer.sha256, val_fraction, corpus.running)
    directory = cache_directory() / "tokens" / name
    if not directory.is_dir():
        _write(directory, corpus, tokenizer, val_fraction)
    train, val = (_open(directory / part) for part in Parts._fields)
    return Store(train, val, corpus.running)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _open(directory: Path) -> Tokens:
    return Tokens(*(np.load(directory / f"{name}.npy", mmap_mode="r") for name in Tokens._fields))


def _write(directory: Path, corpus: Corpus, tokenizer: Tokenizer, val_fraction: float) -> None:
    temporary = directory.with_name(f".{uuid.uuid4().hex}")
    try:
        for name, part in corpus.read(val_fraction)._asdict().items():
            (temporary / name).mkdir(parents=True)
            for field, array in _encode(part, tokenizer, corpus.running)._asdict().items():
                with open(temporary / name / f"{field}.npy", "wb") as file:
                    np.save(file, array)
                    file.flush()
                    os.fsync(file.fileno())  # else a power cut leaves the name on empty files
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
    texts = list(cut(part.texts[0])) if running else part.texts
    ids = [np.zeros(0, dtype)]
    for first in range(0, len(texts), ENCODED_AT_ONCE):
        for encoded in tokenizer.encode_batch(texts[first : first + ENCODED_AT_ONCE]):
            ids.append(np.concatenate((bos, np.asarray(encoded, dtype))))
    lengths = [len(document) for document in ids]
    nats = part.nats if part.nats is not None else [np.nan] * len(part.texts)
    return Tokens(
        ids=np.concatenate(ids),
        starts=np.array([0, sum(lengths)]) if running else np.cumsum(lengths),
        characters=np.array([len(text) for text in part.texts], np.int64),
        bytes=np.array([len(text.encode()) for text in part.texts], np.int64),
        nats=np.asarray(nats, np.float64),
    )


def cut(text: str) -> Iterator[str]:
    """Running text in pieces that end where a line does; joined, they are the text."""
    start = 0
    while start < len(text):
        end = LINE_END.search(text, start + PIECE_CHARACTERS)
        stop = end.end() if end else len(text)
        yield text[start:stop]
        start = stop
