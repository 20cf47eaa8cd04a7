"""Small corpora and their tokenizer, pieces and shards that fit them, and what a store leaves."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from nanogpt_jax import tokenization
from nanogpt_jax.data.corpus import Corpus, Documents, Parts
from nanogpt_jax.data.store import pieces, shards
from nanogpt_jax.tokenization import Tokenizer

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz"
NAMES = ["emma", "olivia", "ava", "zoe"]


def char_tokenizer(characters: str = ALPHABET) -> Tokenizer:
    return tokenization.train("char", [characters], 0)


def names_corpus(fingerprint: str = "names", nats: Sequence[float] | None = None) -> Corpus:
    parts = Parts(Documents(NAMES[:3], nats), Documents(NAMES[3:]))
    return Corpus("text:names.txt", fingerprint, running=False, read=lambda _: parts)


def running_corpus(train: str, val: str = "") -> Corpus:
    parts = Parts(Documents([train]), Documents([val]))
    return Corpus("text:running.txt", train + "|" + val, running=True, read=lambda _: parts)


def make_small(setter: Callable[[object, str, int], object] = setattr) -> None:
    """Pieces, chunks and shards so small that a short text has many."""
    setter(pieces, "PIECE_CHARACTERS", 5)
    setter(pieces, "CHUNK_CHARACTERS", 25)
    setter(shards, "SHARD_TOKENS", 60)


WORDS = [f"{ALPHABET[n % 26 + 1]}word {ALPHABET[n % 7 + 2] * (n % 9)}" for n in range(60)]


def words_corpus(running: bool, given: Iterable[str] = WORDS) -> Corpus:
    parts = Parts(Documents(given), Documents(["held", "out"]))
    return Corpus("text:words.txt", "words", running=running, read=lambda _: parts)


def contents(cache: Path) -> dict[str, bytes]:
    """All files of the only tokens in a cache."""
    (folder,) = (cache / "tokens").iterdir()
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Stop(Exception):
    """What ends a source in the middle."""


def stopping(given_texts: Iterable[str], after: int) -> Iterator[str]:
    yield from itertools.islice(given_texts, after)
    raise Stop
