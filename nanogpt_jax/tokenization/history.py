"""How a byte-pair encoding came to be, told as events: for logs and for programs that watch.

The library says nothing while it learns, so the events are derived from what it learned: a merge
changes only the pieces that hold its pair, so each piece is replayed by itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from nanogpt_jax.tokenization import Options, Tokenizer, require_utf8, tokenizers
from nanogpt_jax.tokenization.bpe import cut_at
from nanogpt_jax.tokenization.special import special_names

Event = dict[str, Any]
Pair = tuple[str, str]


def count_pieces(texts: Iterable[str], pattern: str) -> Counter[str]:
    """How often each piece of `pattern` occurs, written in the library's alphabet of bytes."""
    cut = cut_at(pattern).pre_tokenize_str
    return Counter(piece for text in texts for piece, _ in cut(require_utf8(text)))


def tell_start(pieces: Counter[str], vocab_size: int, options: Options) -> Event:
    """The event before learning; `word_count` counts pieces, each time that they occur."""
    return {
        "event": "bpe_training_started",
        "target_vocab_size": vocab_size,
        "initial_vocab_size": _initial_size(options),
        "word_count": pieces.total(),
    }


def tell_merges(
    tokenizer: Tokenizer, pieces: Mapping[str, int], options: Options
) -> Iterator[Event]:
    """One event for each merge, in the order of learning.

    `pair` are the ids of the two tokens and `count` how often they stood side by side when they
    were merged; `vocab_size` counts special tokens.
    """
    model = _model(tokenizer)
    ranks, ids = _ranks(model), model["vocab"]
    counts: Counter[int] = Counter()
    for piece, times in pieces.items():
        for rank, occurrences in replay(list(piece), ranks):
            counts[rank] += times * occurrences
    for (left, right), rank in ranks.items():
        yield {
            "event": "bpe_training_merge",
            "merge_index": rank,
            "vocab_size": _initial_size(options) + rank + 1,
            "pair": [ids[left], ids[right]],
            "new_token_id": ids[left + right],
            "count": counts[rank],
        }


def tell_end(tokenizer: Tokenizer, pieces: Iterable[str], vocab_size: int) -> Event:
    """The event after learning, with why it ended.

    `target_vocab_size_reached`; `no_pairs`: every piece is one token; `no_repeated_pairs`: the
    pairs left occur too seldom.
    """
    ranks = _ranks(_model(tokenizer))
    if tokenizer.vocab_size == vocab_size:
        reason = "target_vocab_size_reached"
    elif any(_has_pairs(piece, ranks) for piece in pieces):
        reason = "no_repeated_pairs"
    else:
        reason = "no_pairs"
    return {
        "event": "bpe_training_completed",
        "target_vocab_size": vocab_size,
        "final_vocab_size": tokenizer.vocab_size,
        "merge_count": len(ranks),
        "reason": reason,
    }


def replay(symbols: list[str], ranks: Mapping[Pair, int]) -> Iterator[tuple[int, int]]:
    """Merge `symbols` in place; gives each merge's rank and how often its pair stands there."""
    while known := [rank for pair in pairwise(symbols) if (rank := ranks.get(pair)) is not None]:
        rank = min(known)
        yield rank, known.count(rank)
        place = 0
        while place < len(symbols) - 1:
            if ranks.get((symbols[place], symbols[place + 1])) == rank:
                symbols[place : place + 2] = ["".join(symbols[place : place + 2])]
            place += 1


def _has_pairs(piece: str, ranks: Mapping[Pair, int]) -> bool:
    symbols = list(piece)
    for _ in replay(symbols, ranks):
        pass
    return len(symbols) > 1


def _model(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_json())["model"]


def _ranks(model: Mapping[str, Any]) -> dict[Pair, int]:
    return {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}


def _initial_size(options: Options) -> int:
    return tokenizers["bpe"].alphabet_size + len(special_names(options.special_tokens))
