"""Tokens of a corpus, encoded once: memory-mapped files in a cache shared between runs.

A tokenizer that is learned from a corpus is kept beside them. The key is what decides the content:
fingerprints, tokenizer hash, split and form. A reader takes a finished part or none, and compares
all checksums unless that takes long. What is unfinished is gone on with, and what is damaged is
made again with a warning: it can be, so nobody should have to do it. One process at a time writes
the tokens of a key; others wait for it. Nothing that is finished is removed: the cache may be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from nanogpt_jax import tokenization
from nanogpt_jax.cache import cache_directory
from nanogpt_jax.data.corpus import Corpus, Documents, Parts, code_digest
from nanogpt_jax.data.store import columns, shards
from nanogpt_jax.data.store.encoding import Codec, Encoder, encode
from nanogpt_jax.data.store.pieces import gather, split
from nanogpt_jax.tokenization import Tokenizer

# Changes with the files, and with the places where text is cut: going on relies on these.
FORMAT = 3
# Up to so many, checksums are compared whenever tokens are opened: half a second for a gigabyte.
VERIFIED_BYTES = 4 * 2**30
# No writer of a small file takes so long: an older one was left by a writer that was killed.
STALE_SECONDS = 24 * 60 * 60


class Tokens(NamedTuple):
    """One part of a corpus as tokens.

    `ids` is the whole part in order; a document begins with the tokenizer's BOS and ends where the
    next begins (`starts` has one entry more than documents). `characters` and `bytes` count each
    document's text. `nats` are its exact -log p, NaN where unknown; where that of running text is
    known, there is one value for each token.
    """

    ids: np.ndarray | shards.Joined
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


def open_tokenizer(
    corpus: Corpus,
    kind: str,
    vocab_size: int,
    val_fraction: float,
    options: tokenization.Options = tokenization.DEFAULTS,
) -> Tokenizer:
    """The tokenizer of `kind` learned from `corpus`, from the cache or learned into it."""
    code = (code_digest(tokenization), importlib.metadata.version("tokenizers"))
    asked = (kind, vocab_size, dataclasses.astuple(options))
    name = _key(code, corpus.fingerprint, asked, val_fraction, corpus.running)
    path = cache_directory() / "tokenizers" / f"{name}.json"
    if path.is_file():
        tokenizer, how = tokenization.load(path), "as learned before"
    else:
        train, val = corpus.read(val_fraction)
        # A list of characters or words is no secret of the held-out part; merges are learned
        # without it.
        texts = itertools.chain(train.texts, () if kind == "bpe" else val.texts)
        tokenizer, how = tokenization.train(kind, texts, vocab_size, options), "learned now"
        tokenizer.save(path)
        _drop_stale(path.parent)
    logging.info("tokenizer of %s, %s: %s", corpus.identity, how, tokenizer.describe())
    return tokenizer


def _drop_stale(directory: Path) -> None:
    """Remove the hidden files of writers that were killed."""
    for path in directory.glob(".*"):
        with contextlib.suppress(FileNotFoundError):  # another run may do the same
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def open_store(corpus: Corpus, tokenizer: Codec, val_fraction: float) -> Store:
    """The tokens of `corpus`, from the cache or encoded into it."""
    # Who allows no bad record, or fewer, must meet them, although the tokens would be the same.
    skips = (corpus.skips,) if corpus.skips else ()
    name = _key(FORMAT, corpus.fingerprint, tokenizer.sha256, val_fraction, corpus.running, *skips)
    folder = cache_directory() / "tokens" / name
    encoder = Encoder(tokenizer, corpus.running)
    if not all(_is_finished(folder / part) for part in Parts._fields):
        with _lock(folder):
            # Whoever held it may have finished them.
            missing = [part for part in Parts._fields if not _is_finished(folder / part)]
            parts = corpus.read(val_fraction)._asdict() if missing else {}
            for part in missing:
                _write(folder / part, parts[part], encoder, f"{corpus.identity} ({part})")
    train, val = (_open(folder / part, encoder.dtype) for part in Parts._fields)
    return Store(train, val, corpus.running)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds `folder` as soon as no other process does; the system frees it with its holder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("another process is writing %s: waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_finished(folder: Path) -> bool:
    """Whether all files of a part are there and intact."""
    index = shards.read_index(folder)
    content = sum(seal.bytes for seal in index.files.values()) <= VERIFIED_BYTES
    return bool(index.columns) and not shards.find_damage(folder, index.files, content=content)


def _open(folder: Path, dtype: np.dtype[Any]) -> Tokens:
    ids = shards.map_ids(folder, shards.read_index(folder).shards, dtype)
    arrays = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in Tokens._fields[1:])
    return Tokens(ids, *arrays)


def _write(folder: Path, part: Documents, encoder: Encoder, name: str) -> None:
    """Write a part, from behind the finished shards that are intact."""
    if damage := shards.find_damage(folder, shards.read_index(folder).files, content=True):
        logging.warning("tokens of %s: %s; it is made again", name, damage)
    done = shards.keep_intact(folder)
    if done:
        logging.info("tokens of %s: going on after %d finished shards", name, len(done))
    behind = sum(shard.pieces for shard in done)
    rest = itertools.islice(split(part.texts, encoder.running), behind, None)
    started, characters = time.monotonic(), 0
    for shard in shards.write_shards(folder, encode(gather(rest), encoder), len(done)):
        done = [*done, shard]
        shards.save_index(folder, shards.Index(done))
        characters += shard.characters
        logging.info(
            "tokens of %s: shard %d has %d of %d characters, %.1f million characters a second",
            name,
            len(done),
            shard.tokens,
            shard.characters,
            characters / (time.monotonic() - started) / 1e6,
        )
    sealed = columns.write(folder, done, part.nats, encoder, name)
    shards.save_index(folder, shards.Index(done, sealed))
