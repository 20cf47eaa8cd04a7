"""The texts of the tokens in an answer: a table from id to text, and its size beforehand."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable

import numpy as np

from nanogpt_jax.tokenization import Tokenizer

# A control character is written \u0000; a byte that is no UTF-8 becomes U+FFFD, of three bytes.
_BYTES_OF_A_BYTE = 6
# "id":"text", with its quotes and signs, and an id of ten digits.
_BYTES_OF_AN_ENTRY = 16


def texts_of(tokenizer: Tokenizer, ids: Iterable[np.ndarray]) -> dict[str, str]:
    """The text of every id, special tokens by name; an id is a string, as JSON's keys are."""
    distinct = np.unique(np.concatenate([np.ravel(each) for each in ids]))
    return {str(id_): tokenizer.decode([id_], show_special=True) for id_ in distinct.tolist()}


def bound_texts_bytes(tokenizer: Tokenizer, count: int) -> int:
    """The most that the table of `count` different ids takes as JSON."""
    names = {id_: len(name) for name, id_ in tokenizer.special_ids.items()}
    lengths = (names.get(id_, len(text)) for id_, text in enumerate(tokenizer.token_bytes))
    longest = heapq.nlargest(count, lengths)
    return len(json.dumps({})) + _BYTES_OF_AN_ENTRY * len(longest) + _BYTES_OF_A_BYTE * sum(longest)
