"""The opening that a run records: whole words of what is held out, and short."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanogpt_jax.data.conversations import Chat
from nanogpt_jax.data.corpus import BadRecords, Corpus, Documents, Parts, Stream
from nanogpt_jax.data.first_words import first_words, whole_words
from nanogpt_jax.data.parts import open_parts
from nanogpt_jax.tokenization import Options, Tokenizer, train


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))


def opening_of(corpus: Corpus | Stream, tokenizer: Tokenizer, most_characters: int = 40) -> str:
    parts = open_parts(corpus, tokenizer, 0.5, held_out_rows=2, length=8)
    return first_words(parts, tokenizer, chat=False, most_characters=most_characters)


def corpus_of(*held_out: str, running: bool = False) -> Corpus:
    """What is trained on is another text."""
    parts = Parts(Documents(["never this"]), Documents(held_out))
    return Corpus("test", "|".join(held_out), running, lambda val_fraction: parts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("short", "short"),
        ("  around \n", "around"),
        ("exactly ten", "exactly"),
        ("just fits", "just fits"),
        ("1234567890", "1234567890"),
        ("1234567890 more", "1234567890"),
        ("12345678901", "1234567890"),
        ("one two\nthree", "one two"),
        ("a  b     c", "a  b     c"),
        ("a  b      cd", "a  b"),
        ("文字が続いている文章です", "文字が続いている文章"),
        ("half \ufffd", "half"),
    ],
)
def test_words_are_whole_where_one_fits(text: str, words: str):
    assert whole_words(text, 10) == words


@pytest.mark.parametrize("kind", ["char", "bpe", "word"])
def test_of_documents_it_is_the_first_that_is_held_out_and_no_other(kind: str):
    first, second = "The fox met a crow.", "Nobody reads this one."
    corpus = corpus_of(first, second)
    tokenizer = train(kind, ["never this", first, second], 300)
    decoded = tokenizer.decode(tokenizer.encode(first))
    assert opening_of(corpus, tokenizer) == decoded
    assert opening_of(corpus, tokenizer, 12) == whole_words(decoded, 12) != decoded


def test_of_a_stream_it_is_the_first_document_that_is_held_out():
    texts = ["held out first", "trained on", "held out second"]
    tokenizer = train("char", texts, 0)
    stream = Stream("test", "f", lambda at: iter([(text, None) for text in texts]))
    assert opening_of(stream, tokenizer) == "held out first"


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("t line\nFirst whole line\nnext", "First whole line\nnext"),
        ("t words in a row and no end of a line at all", "words in a row and no end of a line at"),
        ("\n\n  after empty lines", "after empty lines"),
        ("x" * 90, "x" * 40),
        ("one line and then its end\n", "line and then its end"),
    ],
)
def test_running_text_is_quoted_from_its_first_whole_line_or_word(text: str, opening: str):
    tokenizer = train("char", ["never this", text], 0)
    assert opening_of(corpus_of(text, running=True), tokenizer) == opening


def test_nothing_is_quoted_where_nothing_is_held_out():
    tokenizer = train("char", ["abc"], 0)
    stream = Stream("test", "f", lambda at: iter(()))
    assert opening_of(stream, tokenizer) == ""


@pytest.mark.parametrize("system", ["", "Be brief. "])
def test_of_conversations_it_is_what_the_user_says_first(system: str):
    said = (
        f"{system and 'System: '}{system}User: Why is the sky blue? Assistant: It scatters light."
    )
    chat = Chat("all", BadRecords())
    tokenizer = train("char", ["never this", said], 0, Options(special_tokens="chat"))
    trained, held_out = Documents([said]), Documents([said, "User: Why? Assistant: It is."])
    corpus = Corpus("test", said, False, lambda val_fraction: Parts(trained, held_out))
    parts = open_parts(corpus, tokenizer, 0.5, held_out_rows=2, length=8, chat=chat)
    assert first_words(parts, tokenizer, chat=True, most_characters=40) == "Why is the sky blue?"
    assert first_words(parts, tokenizer, chat=True, most_characters=10) == "Why is the"
