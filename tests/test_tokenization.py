"""Tokenizers: nothing is lost, nothing in a text is special, and a file says who wrote it."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers as library
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.errors import ConfigError, ExitCode, TokenizerError, exit_code_of
from nanogpt_jax.tokenization import BOS, Tokenizer

CORPUS = [
    "It's the first line of the text, the first of three.\r\n\r\n\tThe 2nd line isn't.\n",
    "Größe naïve 東京 मराठी 😀👩‍👧 e\u0301 1234567\n" * 3,
    f"A user may write {BOS} or <|endoftext|>.",
]
TRICKY = [BOS, "<|", "bos", "'LL", "\u2019s", "  ", "\r\n", "\u2028", "\x00", "e\u0301", "👩‍👧"]
texts = st.lists(st.sampled_from(TRICKY) | st.text()).map("".join)
known_texts = st.text(sorted(set("".join(CORPUS))))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return tokenization.train("bpe", CORPUS, 320)


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return tokenization.train("char", CORPUS, 0)


@pytest.fixture(params=list(tokenization.tokenizers))
def tokenizer(request: pytest.FixtureRequest) -> Iterator[Tokenizer]:
    yield tokenization.train(request.param, CORPUS, 320)


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
    assert BOS in tokenizer.decode(tokenizer.encode(CORPUS[2]))


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


def test_a_saved_tokenizer_opens_as_itself(tokenizer: Tokenizer, tmp_path: Path):
    path = tmp_path / "new" / "folder" / "tokenizer.json"
    tokenizer.save(path)
    opened = tokenization.load(path)
    assert type(opened) is type(tokenizer) and opened.sha256 == tokenizer.sha256
    assert (opened.vocab_size, opened.bos_id) == (tokenizer.vocab_size, tokenizer.bos_id)
    assert opened.encode(CORPUS[1]).tolist() == tokenizer.encode(CORPUS[1]).tolist()
    opened.save(path.with_name("again.json"))
    assert path.with_name("again.json").read_bytes() == path.read_bytes()


def test_the_hash_ignores_how_the_file_is_laid_out(bpe: Tokenizer, tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(bpe.to_json()) | {"post_processor": None}))
    assert path.read_text() != bpe.to_json()
    assert tokenization.load(path).sha256 == bpe.sha256


def test_the_hash_tells_apart_the_same_tokens_under_other_rules(bpe: Tokenizer):
    content = json.loads(bpe.to_json())
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "."
    other = type(bpe).parse(content)
    assert other.token_bytes == bpe.token_bytes
    assert other.encode(CORPUS[0]).tolist() != bpe.encode(CORPUS[0]).tolist()
    assert other.sha256 != bpe.sha256


def test_a_save_that_fails_leaves_the_file_before_it(
    char: Tokenizer, bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "tokenizer.json"
    char.save(path)

    def fail(_: int):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        bpe.save(path)
    assert tokenization.load(path).sha256 == char.sha256
    assert list(tmp_path.iterdir()) == [path]


def library_bpe(*, prefix: bool = False, lower: bool = False, bytes_known: bool = True) -> dict:
    """A file as another project might have it, with settings that must not change an encoding."""
    other = library.Tokenizer(library.models.BPE(dropout=0.9))
    byte_level = library.pre_tokenizers.ByteLevel
    other.pre_tokenizer = byte_level(add_prefix_space=prefix)
    other.decoder = library.decoders.ByteLevel()
    if lower:
        other.normalizer = library.normalizers.Lowercase()
    trainer = library.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=byte_level.alphabet() if bytes_known else [],
        show_progress=False,
    )
    other.train_from_iterator(CORPUS, trainer)
    other.enable_truncation(2)
    other.enable_padding()
    return json.loads(other.to_str())


def test_a_byte_level_file_of_the_library_opens_and_gets_the_special_token(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(library_bpe()))
    opened = tokenization.load(path)
    assert (opened.kind, opened.vocab_size, opened.bos_id) == ("bpe", 301, 300)
    text = "It's the first <|endoftext|>"
    ids = opened.encode(text)
    assert 0 not in ids and opened.decode(ids) == text and opened.decode([0]) == ""
    assert len({tuple(opened.encode(text)) for _ in range(9)}) == 1
    opened.save(path)
    assert tokenization.load(path).sha256 == opened.sha256


@pytest.mark.parametrize(
    "content, reason",
    [
        ("", "not a tokenizer file"),
        ("[]", "a JSON object is required"),
        ("{}", "the tokenizers library refuses it"),
        ('{"kind": "chars"}', "did you mean 'char'?"),
        ('{"kind": "char"}', "a string is required"),
        ('{"kind": "char", "characters": "ba"}', "in the order of their code points"),
        ('{"kind": "char", "characters": "\\ud800"}', "U+D800"),
        (json.dumps(library_bpe(prefix=True)), "it changes text"),
        (json.dumps(library_bpe(lower=True)), "it changes text"),
        (json.dumps(library_bpe(bytes_known=False)), "some bytes have no token"),
        (library.Tokenizer(library.models.WordLevel({"a b": 0})).to_str(), "a BPE is required"),
        (library.Tokenizer(library.models.BPE({"a b": 0}, [])).to_str(), "is not of bytes"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_by_name(content: str, reason: str, tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(TokenizerError) as error:
        tokenization.load(path)
    assert reason in str(error.value) and str(path) in str(error.value)


def test_a_missing_file_and_a_file_of_bytes_are_refused_too(tmp_path: Path):
    with pytest.raises(TokenizerError, match="No such file"):
        tokenization.load(tmp_path / "tokenizer.json")
    (tmp_path / "picture").write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="not a tokenizer file"):
        tokenization.load(tmp_path / "picture")


@pytest.mark.parametrize(
    "kind, size, reason", [("bpe", 256, "at least 257"), ("cahr", 9, "'char'")]
)
def test_a_request_that_cannot_be_met_is_a_usage_error(kind: str, size: int, reason: str):
    assert reason in str(tokenization.problem(kind, size))
    with pytest.raises(ConfigError, match=reason) as error:
        tokenization.train(kind, CORPUS, size)
    assert exit_code_of(error.value) is ExitCode.USAGE


def test_the_least_requests_are_met():
    assert tokenization.problem("bpe", 257) is None and tokenization.problem("char", 0) is None
    assert tokenization.train("bpe", CORPUS, 257).vocab_size == 257
    with pytest.raises(TokenizerError, match="at least one is required"):
        tokenization.train("char", [""], 0)


def test_a_vocabulary_smaller_than_asked_is_kept_and_reported(caplog: pytest.LogCaptureFixture):
    assert tokenization.train("bpe", ["abab"], 300).vocab_size == 259
    assert "259 tokens, 300 were asked for" in caplog.text


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
