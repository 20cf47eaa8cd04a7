"""The files of tokenizers: they open as what was saved, and others are refused by name."""

import json
from pathlib import Path

import pytest
import tokenizers as library

from nanogpt_jax import tokenization
from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import Tokenizer
from nanogpt_jax.tokenization.special import BOS
from tests.tokenization.corpus import CORPUS


def test_a_saved_tokenizer_opens_as_itself(tokenizer: Tokenizer, tmp_path: Path):
    path = tmp_path / "new" / "folder" / "tokenizer.json"
    tokenizer.save(path)
    opened = tokenization.load(path)
    assert type(opened) is type(tokenizer) and opened.sha256 == tokenizer.sha256
    assert (opened.vocab_size, opened.bos_id) == (tokenizer.vocab_size, tokenizer.bos_id)
    assert opened.encode(CORPUS[1]).tolist() == tokenizer.encode(CORPUS[1]).tolist()
    opened.save(path.with_name("again.json"))
    assert path.with_name("again.json").read_bytes() == path.read_bytes()


def test_the_hash_of_a_tokenizer_without_other_special_tokens_is_what_it_has_always_been():
    recorded = "b5dca16c9d03b4f49dbe948e223b9bb1c833425b2f9bd32ac4e209035c53fa41"
    assert tokenization.train("char", ["abc"], 0).sha256 == recorded


def test_a_char_file_from_before_there_were_special_tokens_opens(tmp_path: Path):
    (tmp_path / "old.json").write_text('{"kind": "char", "characters": "abc"}')
    opened = tokenization.load(tmp_path / "old.json")
    assert opened.sha256 == tokenization.train("char", ["abc"], 0).sha256


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
        ('{"kind": "char", "characters": "a", "special_tokens": 1}', "a list of names is required"),
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


def test_a_missing_file_an_empty_folder_and_a_file_of_bytes_are_told_apart(tmp_path: Path):
    with pytest.raises(TokenizerError, match="No such file"):
        tokenization.load(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match="is a folder without"):
        tokenization.load(tmp_path)
    (tmp_path / "picture").write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="not a tokenizer file"):
        tokenization.load(tmp_path / "picture")


def test_an_opened_tokenizer_is_given_the_special_tokens_that_it_lacks(
    tokenizer: Tokenizer, tmp_path: Path
):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    extended = tokenization.load(path, "chat")
    assert tokenizer.special_ids.keys() == {BOS} and len(extended.special_ids) == 12
    assert extended.vocab_size == tokenizer.vocab_size + 11
    assert extended.bos_id == tokenizer.bos_id and extended.sha256 != tokenizer.sha256
    assert extended.encode(CORPUS[0]).tolist() == tokenizer.encode(CORPUS[0]).tolist()
    extended.save(path)
    assert tokenization.load(path).sha256 == extended.sha256
