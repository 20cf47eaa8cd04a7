"""Tokens by hand, for the tests of what is made from them."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from nanogpt_jax.data.store import Tokens

BOS = 99


@pytest.fixture(scope="session")
def running_tokens() -> Callable[[int], Tokens]:
    """A function from a length to running text whose token i is i."""

    def make(length: int) -> Tokens:
        one = np.array([length])
        return Tokens(
            np.arange(length, dtype=np.uint32), np.array([0, length]), one, one, np.array([np.nan])
        )

    return make


@pytest.fixture(scope="session")
def document_tokens() -> Callable[[Sequence[Sequence[int]]], Tokens]:
    """A function from documents to their tokens; BOS is 99.

    Document i has 1000 + i nats, and 10 characters and 20 bytes a token.
    """

    def make(documents: Sequence[Sequence[int]]) -> Tokens:
        lengths = np.array([len(document) for document in documents], np.int64)
        ids = [token for document in documents for token in (BOS, *document)]
        return Tokens(
            np.array(ids, np.uint16),
            np.cumsum([0, *(lengths + 1)]),
            10 * lengths,
            20 * lengths,
            1000.0 + np.arange(len(documents)),
        )

    return make
