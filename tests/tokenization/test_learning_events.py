"""What is told of learning is what a plain trainer, written out here, finds as well."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import Options, history
from nanogpt_jax.tokenization.bpe import byte_by_character

TEXT = "low lower lowest new newer newest wide wider widest, slow slower.\n" * 3
Merge = tuple[list[int], int, int]  # the ids of the pair, the new id, how often it stood there


def learn_plainly(texts: list[str], size: int, least: int, pattern: str = "compact") -> list[Merge]:
    """Merge the most frequent pair until there is no more, at a tie the one of lower ids."""
    ids = {character: id_ for id_, character in enumerate(sorted(byte_by_character()))}
    times = history.count_pieces(texts, pattern)
    words = {piece: [ids[character] for character in piece] for piece in times}
    learned: list[Merge] = []
    while 256 + len(learned) < size:
        counts: Counter[tuple[int, int]] = Counter()
        for piece, symbols in words.items():
            for pair in pairwise(symbols):
                counts[pair] += times[piece]
        pair = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if pair is None or counts[pair] < least:
            break
        learned.append(([*pair], 256 + len(learned), counts[pair]))
        for symbols in words.values():
            place = 0
            while place < len(symbols) - 1:
                if (symbols[place], symbols[place + 1]) == pair:
                    symbols[place : place + 2] = [learned[-1][1]]
                place += 1
    return learned


def tell(texts: list[str], size: int, options: Options) -> tuple[dict, list[dict], dict]:
    """The events of learning: the first, the merges, the last."""
    pieces = history.count_pieces(texts, options.pattern)
    tokenizer = tokenization.train("bpe", texts, size, options)
    merges = list(history.tell_merges(tokenizer, pieces, options))
    start, end = (
        history.tell_start(pieces, size, options),
        history.tell_end(tokenizer, pieces, size),
    )
    return start, merges, end


@pytest.mark.parametrize("pattern", ["compact", "gpt2", r"[\s\S]+"])
def test_merges_and_their_counts_are_those_of_a_plain_trainer(pattern: str):
    _, merges, _ = tell([TEXT], 280, Options(pattern=pattern))
    expected = learn_plainly([TEXT], 279, 2, pattern)
    assert [(each["pair"], each["new_token_id"], each["count"]) for each in merges] == expected
    assert len({each["count"] for each in merges}) < len(merges) == 23  # ties among them


@given(words=st.lists(st.text("abc", max_size=9), max_size=9))
def test_merges_of_any_words_are_those_of_a_plain_trainer(words: list[str]):
    texts = [" ".join(words)]
    _, merges, _ = tell(texts, 262, Options())
    expected = learn_plainly(texts, 261, 2)
    assert [(each["pair"], each["new_token_id"], each["count"]) for each in merges] == expected


def test_the_events_count_special_tokens_and_pieces():
    start, merges, end = tell(["ab ab ab"], 269, Options(special_tokens="chat"))
    assert start == {
        "event": "bpe_training_started",
        "target_vocab_size": 269,
        "initial_vocab_size": 268,
        "word_count": 3,
    }
    a, b = (sorted(byte_by_character()).index(letter) for letter in "ab")
    assert merges == [
        {
            "event": "bpe_training_merge",
            "merge_index": 0,
            "vocab_size": 269,
            "pair": [a, b],
            "new_token_id": 256,
            "count": 3,
        }
    ]
    assert end == {
        "event": "bpe_training_completed",
        "target_vocab_size": 269,
        "final_vocab_size": 269,
        "merge_count": 1,
        "reason": "target_vocab_size_reached",
    }


@pytest.mark.parametrize(
    "text, size, least, reason",
    [
        ("abab", 258, 2, "target_vocab_size_reached"),
        ("abab", 300, 2, "no_repeated_pairs"),
        ("abab", 300, 1, "no_pairs"),
        ("ab ab ba", 300, 2, "no_repeated_pairs"),
        ("a", 300, 2, "no_pairs"),
    ],
)
def test_the_last_event_says_why_learning_ended(text: str, size: int, least: int, reason: str):
    _, merges, end = tell([text], size, Options(min_pair_count=least))
    assert end["reason"] == reason
    assert end["merge_count"] == len(merges) == end["final_vocab_size"] - 257


def test_a_lone_surrogate_is_named_here_too():
    with pytest.raises(TokenizerError, match=r"U\+D800\) at offset 1"):
        history.count_pieces(["t\ud800"], "compact")
