"""Tokenizers: nothing is lost, nothing in a text is special, and a file says who wrote it."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers as library
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.errors import ConfigError, ExitCode, TokenizerError, exit_code_of
from nanogpt_jax.tokenization import Options, Tokenizer
from nanogpt_jax.tokenization.patterns import PATTERNS
from nanogpt_jax.tokenization.special import BOS, special_names
from tests.tokenization.corpus import CORPUS

TRICKY = [BOS, "<|", "bos", "'LL", "\u2019s", "  ", "\r\n", "\u2028", "\x00", "e\u0301", "👩‍👧"]
texts = st.lists(st.sampled_from(TRICKY) | st.text()).map("".join)
known_texts = st.text(sorted(set("".join(CORPUS))))


@pytest.fixture(scope="module")
def exact(bpe: Tokenizer, char: Tokenizer) -> list[Tokenizer]:
    """A tokenizer of every kind that promises the round trip, and bpe with every way to cut."""
    options = [
        *(Options(pattern=pattern) for pattern in (*PATTERNS, r"[\s\S]{1,3}", r"\p{L}+")),
        Options(special_tokens="chat", min_pair_count=1),
    ]
    return [char, *(tokenization.train("bpe", CORPUS, 320, each) for each in options)]


def test_every_kind_but_the_one_of_words_promises_the_round_trip(exact: list[Tokenizer]):
    kinds = tokenization.tokenizers
    assert {kind for kind in kinds if kinds[kind].exact} == {each.kind for each in exact}
    assert len({each.sha256 for each in exact}) == len(exact)


@given(text=texts, known=known_texts)
def test_a_kind_that_promises_the_round_trip_keeps_it(
    exact: list[Tokenizer], text: str, known: str
):
    for tokenizer in exact:
        wanted = text if tokenizer.alphabet_size else known
        ids = tokenizer.encode(wanted)
        assert tokenizer.decode(ids) == tokenizer.decode(ids, show_special=True) == wanted
        assert set(tokenizer.special_ids.values()).isdisjoint(ids.tolist())


@given(text=texts)
def test_bpe_gives_back_any_text(bpe: Tokenizer, text: str):
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert bpe.bos_id not in ids
    assert b"".join(map(bpe.bytes_of, ids)) == text.encode()


@given(text=known_texts)
def test_char_gives_back_any_text_of_its_characters(char: Tokenizer, text: str):
    ids = char.encode(text)
    assert char.decode(ids) == text
    assert len(ids) == len(text)


@given(documents=st.lists(texts, max_size=4))
def test_a_batch_is_encoded_as_each_text_alone(bpe: Tokenizer, documents: list[str]):
    batch = bpe.encode_batch(documents)
    assert [ids.tolist() for ids in batch] == [bpe.encode(text).tolist() for text in documents]


@given(ids=st.lists(st.integers(0, 319)))
def test_any_tokens_decode_one_by_one_as_together_and_as_the_library_decodes_them(
    bpe: Tokenizer, ids: list[int]
):
    decoder = bpe.decoder()
    pieces = [decoder.push(token) for token in ids]
    whole = bpe.decode(ids)
    assert "".join(pieces) + decoder.flush() == whole
    assert library.Tokenizer.from_str(bpe.to_json()).decode(ids) == whole


def test_a_decoder_holds_back_half_a_character_but_never_a_stray_byte(bpe: Tokenizer):
    one_byte = {token: id_ for id_, token in enumerate(bpe.token_bytes) if len(token) == 1}
    decoder = bpe.decoder()
    euro = [one_byte[bytes([byte])] for byte in "€".encode()]
    assert [decoder.push(token) for token in euro] == ["", "", "€"]
    assert [decoder.push(token) for token in [euro[1], euro[1]]] == ["\ufffd", "\ufffd"]
    assert decoder.push(euro[0]) == "" and decoder.push(bpe.bos_id) == ""
    assert decoder.flush() == "\ufffd"


def test_the_special_token_has_no_text_and_comes_last(tokenizer: Tokenizer):
    ids = [tokenizer.bos_id, *tokenizer.encode("the text"), tokenizer.bos_id]
    assert tokenizer.decode(ids) == "the text"
    assert tokenizer.bos_id == tokenizer.vocab_size - 1
    assert BOS in tokenizer.decode(tokenizer.encode(CORPUS[2])).replace(" ", "")


def test_special_tokens_are_shown_by_name_when_asked(tokenizer: Tokenizer):
    between = tokenizer.separator.decode()
    ids = [tokenizer.bos_id, *tokenizer.encode("text"), tokenizer.special_id(BOS)]
    assert tokenizer.decode(ids, show_special=True) == between.join((BOS, "text", BOS))


@pytest.mark.parametrize("kind", list(tokenization.tokenizers))
def test_the_tokens_of_conversations_are_appended_in_their_order(kind: str, tmp_path: Path):
    tokenizer = tokenization.train(kind, CORPUS, 320, Options(special_tokens="chat"))
    last = range(tokenizer.vocab_size - 12, tokenizer.vocab_size)
    assert dict(zip(special_names("chat"), last, strict=True)) == tokenizer.special_ids
    assert tokenizer.decode(last) == "" and tokenizer.bos_id == last[0]
    tokenizer.save(tmp_path / "tokenizer.json")
    opened = tokenization.load(tmp_path)
    assert opened.special_ids == tokenizer.special_ids and opened.sha256 == tokenizer.sha256


def test_a_special_token_that_is_not_there_is_named_with_the_remedy(tokenizer: Tokenizer):
    with pytest.raises(TokenizerError, match=r"<\|eos\|>; special_tokens=chat"):
        tokenizer.special_id("<|eos|>")


def test_a_special_token_that_the_corpus_teaches_is_refused():
    with pytest.raises(TokenizerError, match="a pattern that cuts it"):
        tokenization.train("bpe", [BOS * 9], 320, Options(pattern=r"[\s\S]+"))


def test_the_library_would_read_the_special_token_out_of_a_text(bpe: Tokenizer):
    text = f"x{BOS}y"
    assert bpe.bos_id in library.Tokenizer.from_str(bpe.to_json()).encode(text).ids
    copies = [bpe, pickle.loads(pickle.dumps(bpe)), type(bpe).parse(json.loads(bpe.to_json()))]
    assert all(bpe.bos_id not in copy.encode(text) for copy in copies)
    assert len({tuple(copy.encode(text)) for copy in copies}) == 1


def test_a_corpus_full_of_the_special_token_teaches_no_token_of_that_text():
    tokenizer = tokenization.train("bpe", [BOS * 50, f"a{BOS}b " * 50], 300)
    ids = tokenizer.encode(f"a{BOS}b {BOS}{BOS}")
    assert tokenizer.bos_id not in ids
    assert BOS.encode() not in tokenizer.token_bytes


def test_char_ids_follow_the_sorted_characters():
    tokenizer = tokenization.train("char", ["hello", " world"], 0)
    assert tokenizer.encode(" dehlorw").tolist() == list(range(8))
    assert tokenizer.bos_id == 8 and tokenizer.encode("").tolist() == []


@pytest.mark.parametrize("text, found", [("axé", "'é' (U+00E9) at offset 2"), ("😀", "U+1F600")])
def test_char_names_the_first_character_that_it_does_not_know(text: str, found: str):
    tokenizer = tokenization.train("char", ["axz"], 0)
    with pytest.raises(TokenizerError) as error:
        tokenizer.encode(text + "??")
    assert found in str(error.value) and "train the tokenizer" in str(error.value)


def test_a_lone_surrogate_is_named_wherever_it_comes_in(tokenizer: Tokenizer):
    with pytest.raises(TokenizerError, match=r"U\+D800\) at offset 2"):
        tokenizer.encode("th\ud800")
    with pytest.raises(TokenizerError, match=r"U\+D800\) at offset 1"):
        tokenization.train(tokenizer.kind, ["t\ud800"], 320)


@pytest.mark.parametrize("token", [-1, 320])
def test_a_token_outside_the_vocabulary_is_an_error(bpe: Tokenizer, token: int):
    with pytest.raises(TokenizerError, match="outside the vocabulary of 320"):
        bpe.decode([token])


def test_training_twice_gives_the_same_file(tokenizer: Tokenizer):
    again = tokenization.train(tokenizer.kind, iter(CORPUS), 320)
    assert again.to_json() == tokenizer.to_json() and again.sha256 == tokenizer.sha256
    other = tokenization.train(tokenizer.kind, [*CORPUS, "zebra %" * 9], 320)
    assert other.sha256 != tokenizer.sha256


@pytest.mark.parametrize(
    "kind, size, options, reason",
    [
        ("bpe", 256, Options(), "at least 257"),
        ("bpe", 267, Options(special_tokens="chat"), "at least 268"),
        ("cahr", 9, Options(), "'char'"),
        (
            "bpe",
            300,
            Options(pattern="gtp4"),
            "must be compact, gpt2, gpt4 or an Oniguruma regular",
        ),
        ("bpe", 300, Options(pattern="("), "must be compact, gpt2, gpt4 or an Oniguruma regular"),
        ("bpe", 300, Options(min_pair_count=0), "min_pair_count=0 must be greater than 0"),
    ],
)
def test_a_request_that_cannot_be_met_is_a_usage_error(
    kind: str, size: int, options: Options, reason: str
):
    assert reason in str(tokenization.problem(kind, size, options))
    with pytest.raises(ConfigError, match=reason) as error:
        tokenization.train(kind, CORPUS, size, options)
    assert exit_code_of(error.value) is ExitCode.USAGE


def test_the_least_requests_are_met():
    assert tokenization.problem("bpe", 257) is None and tokenization.problem("char", 0) is None
    assert tokenization.train("bpe", CORPUS, 257).vocab_size == 257
    with pytest.raises(TokenizerError, match="at least one is required"):
        tokenization.train("char", [""], 0)


@pytest.mark.parametrize("least, size", [(1, 259), (2, 258), (3, 257)])
def test_pairs_too_rare_are_not_merged_and_a_small_vocabulary_is_reported(
    least: int, size: int, caplog: pytest.LogCaptureFixture
):
    options = Options(min_pair_count=least)
    assert tokenization.train("bpe", ["abab"], 300, options).vocab_size == size
    assert f"{size} tokens, 300 were asked for" in caplog.text


def test_a_forked_process_encodes_in_silence():
    script = """
import os
from nanogpt_jax import tokenization
tokenizer = tokenization.train("bpe", ["some words "] * 99, 260)
before = [ids.tolist() for ids in tokenizer.encode_batch(["words"] * 99)]
child = os.fork()
if child == 0:
    same = [ids.tolist() for ids in tokenizer.encode_batch(["words"] * 99)] == before
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    # Python's own warning about threads and fork is not the library's.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    repository = Path(__file__).resolve().parents[1]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
