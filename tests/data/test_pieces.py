"""Pieces: cut where no token is, the same however the text arrives."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.data.store import pieces
from nanogpt_jax.data.store.pieces import Chunk, cut, gather, split
from nanogpt_jax.tokenization import Tokenizer
from nanogpt_jax.tokenization.patterns import PATTERNS

TEXT = "It's a line.\nAnd 12 more:\n\n\tthe last's the third\r\nof the text 東京 é\n" * 4
SHREDS = [
    *("\n", "\n", "\n", "\r\n", " ", " ", "\t", "'s", "'", "a", "b c", "é", "e\u0301", "東"),
    *("12", " 3", "_", "./", "\u2028", "\u00a0", "😀"),
]
# So that what is blank is merged in every length.
BLANKS = ["\n\n", "\r\n", "\n\n\n", "  ", "\t "] * 9
texts = st.lists(st.sampled_from(SHREDS), max_size=60).map("".join)


@pytest.fixture(autouse=True, scope="module")
def short_pieces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_CHARACTERS", 3)
        patch.setattr(pieces, "CHUNK_CHARACTERS", 12)
        yield


@pytest.fixture(scope="module", params=PATTERNS)
def bpe(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer of each split pattern that has a name."""
    options = tokenization.Options(pattern=request.param)
    return tokenization.train("bpe", [TEXT, *BLANKS], 320, options)


@example(text="one\n\ntwo")
@example(text="one\r\ntwo")
@example(text="one!\n two  three\t four")
@settings(max_examples=100)
@given(text=texts)
def test_the_tokens_of_the_pieces_are_those_of_the_text(bpe: Tokenizer, text: str):
    cut_text = list(cut([text]))
    assert "".join(cut_text) == text
    ids = [token for piece in cut_text for token in bpe.encode(piece).tolist()]
    assert ids == bpe.encode(text).tolist()


def test_a_text_is_cut_after_a_line_and_between_words():
    assert list(cut(["the end\nof it"])) == ["the", " end\n", "of it"]
    assert list(cut(["one\n\ntwo\r\n...\n...\n  "])) == ["one\n\ntwo\r\n...\n...\n  "]


@given(portions=st.lists(st.text("ab \n\r.", max_size=9), max_size=12))
def test_where_a_text_is_cut_does_not_depend_on_its_portions(portions: list[str]):
    assert list(cut(portions)) == list(cut(["".join(portions)]))
    assert "" not in cut(portions)


def test_only_a_document_larger_than_a_chunk_is_cut():
    short, long = "of 12 letter", "a longer text"
    assert list(split([short, long, ""], running=False)) == [
        *((short, True), ("a longer", True), (" text", False), ("", True))
    ]


@pytest.mark.parametrize("portions", [[], [""], ["", ""]])
def test_running_text_is_one_document_even_without_text(portions: Sequence[str]):
    assert list(split(portions, running=True)) == [("", True)]
    assert list(split(["it ", "is one"], running=True)) == [("it is", True), (" one", False)]


@given(st.lists(st.tuples(st.text("ab", max_size=9), st.booleans())))
def test_chunks_hold_all_pieces_in_order_and_are_filled(given_pieces: list[tuple[str, bool]]):
    chunks = list(gather(given_pieces))
    assert [pair for chunk in chunks for pair in zip(*chunk, strict=True)] == given_pieces
    for chunk in chunks[:-1]:
        assert size(chunk) >= 12 > size(Chunk(chunk.texts[:-1], []))


def size(chunk: Chunk) -> int:
    return sum(len(text) + 1 for text in chunk.texts)
