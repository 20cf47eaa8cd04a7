"""Words and punctuation marks, as the reference has them, and honest about what is lost."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import Options, Tokenizer

CORPUS = ["User: What's rain? Assistant: Water, from clouds. </s>", "It's x</s>."]


@pytest.fixture(scope="module")
def strict() -> Tokenizer:
    return tokenization.train("word", CORPUS, 0)


@pytest.fixture(scope="module")
def lenient() -> Tokenizer:
    return tokenization.train("word", CORPUS, 0, Options(unknown="drop"))


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.bytes_of(id_).decode() for id_ in tokenizer.encode(text).tolist()]


def test_the_vocabulary_is_sorted_and_holds_the_end_whole_and_in_pieces(strict: Tokenizer):
    found = [token.decode() for token in strict.token_bytes]
    expected = "' , . / : < </s> > ? Assistant It User Water What clouds from rain s x"
    assert found == [*expected.split(), ""]
    assert strict.bos_id == len(found) - 1
    without = tokenization.train("word", ["a b"], 0)
    assert [token.decode() for token in without.token_bytes] == ["</s>", "a", "b", ""]


def test_the_end_is_one_token_only_where_it_stands_alone(strict: Tokenizer):
    assert words(strict, "rain </s>") == ["rain", "</s>"]
    assert words(strict, "rain</s>") == ["rain", "<", "/", "s", ">"]
    assert words(strict, "</s>.") == ["<", "/", "s", ">", "."]


def test_white_space_is_unicodes(strict: Tokenizer):
    text = "rain\u2003x\u00a0s\x85It"
    assert words(strict, text) == ["rain", "x", "s", "It"]
    # Python's split would part these two.
    assert "x\x1cx".split() == ["x", "x"]
    with pytest.raises(TokenizerError, match=r"'x\\x1cx' at offset 0"):
        strict.encode("x\x1cx")


def test_decoding_joins_with_single_spaces(strict: Tokenizer):
    ids = strict.encode(CORPUS[0])
    told = "User : What ' s rain ? Assistant : Water , from clouds . </s>"
    assert strict.decode(ids) == told and not strict.exact
    assert strict.encode(told).tolist() == ids.tolist()


@given(ids=st.lists(st.integers(0, 19)))
def test_tokens_decode_one_by_one_as_together(strict: Tokenizer, ids: list[int]):
    assert strict.vocab_size == 20
    decoder = strict.decoder()
    assert "".join(map(decoder.push, ids)) + decoder.flush() == strict.decode(ids)


def test_an_unknown_word_is_an_error_or_dropped_as_the_tokenizer_says(
    strict: Tokenizer, lenient: Tokenizer
):
    text = "It's snow, Größe."
    with pytest.raises(TokenizerError, match="word 'snow' at offset 5 has no token; train"):
        strict.encode(text)
    assert words(lenient, text) == ["It", "'", "s", ",", "."]
    assert lenient.sha256 != strict.sha256 and lenient.token_bytes == strict.token_bytes


@given(text=st.text())
def test_a_tokenizer_that_drops_takes_any_text(lenient: Tokenizer, text: str):
    again = lenient.decode(lenient.encode(text))
    assert lenient.encode(again).tolist() == lenient.encode(text).tolist()


def test_what_it_does_with_unknown_words_is_kept_in_its_file(lenient: Tokenizer, tmp_path: Path):
    lenient.save(tmp_path / "tokenizer.json")
    opened = tokenization.load(tmp_path)
    assert opened.sha256 == lenient.sha256 and len(opened.encode("snow")) == 0


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"words": ["b", "a"]}, "in the order of their code points"),
        ({"words": []}, "at least one is required"),
        ({"words": "ab"}, "a list of strings is required"),
        ({"unknown": "guess"}, "error or drop is required"),
    ],
)
def test_a_file_with_other_content_is_refused(
    changes: dict, reason: str, strict: Tokenizer, tmp_path: Path
):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(strict.to_json()) | changes))
    with pytest.raises(TokenizerError, match=reason):
        tokenization.load(path)
