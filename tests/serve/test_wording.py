"""The texts of tokens, and the size of their table beforehand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nanogpt_jax import tokenization
from nanogpt_jax.serve.wording import bound_texts_bytes, texts_of

TEXT = 'a\tü\n"quoted" \\ and \x00\x7f 𝄞 \u2028 again and again and again\r\n'


@pytest.mark.parametrize("kind", ["char", "bpe", "word"])
def test_no_table_is_larger_than_its_bound(kind: Any):
    tokenizer = tokenization.train(kind, [TEXT], 300)
    everything = np.arange(tokenizer.vocab_size)
    for ids in (everything, everything[:3], everything[-1:], np.array([0, 0, 0])):
        table = json.dumps(texts_of(tokenizer, [ids]), ensure_ascii=False).encode()
        assert len(table) <= bound_texts_bytes(tokenizer, len(ids))


def test_every_id_has_its_text_once_and_special_tokens_their_names():
    tokenizer = tokenization.train("char", ["abc"], 300)
    a, b, bos = (*tokenizer.encode("ab").tolist(), tokenizer.bos_id)
    found = texts_of(tokenizer, [np.array([[a, b], [a, bos]]), np.array(b)])
    assert found == {str(a): "a", str(b): "b", str(bos): "<|bos|>"}


def test_more_ids_than_the_vocabulary_has_cost_no_more():
    tokenizer = tokenization.train("char", ["abc"], 300)
    whole = bound_texts_bytes(tokenizer, tokenizer.vocab_size)
    assert bound_texts_bytes(tokenizer, 10**6) == whole
