"""tiktoken gives the same ids from the exported ranks, and what it could not is not exported."""

import json
from pathlib import Path

import pytest
import tiktoken
import tokenizers as library
from hypothesis import given
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe

from nanogpt_jax import tokenization
from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import Options, Tokenizer
from nanogpt_jax.tokenization.export import Ranks, ranks_of
from nanogpt_jax.tokenization.patterns import PATTERNS
from nanogpt_jax.tokenization.special import BOS

CORPUS = [
    "It's the first line, the first of three.\r\n\r\n\tThe 2nd line isn't.\n" * 2,
    "Größe naïve 東京 मराठी 😀👩\u200d👧 e\u0301 1234567 aaaaaaa abababab\n" * 3,
]
SHREDS = [
    BOS,
    "'LL",
    "'\u017f",
    "the",
    "first",
    "aaa",
    "ab",
    "  ",
    "\r\n",
    "\u2028",
    "123",
    "\u0301",
]
texts = st.lists(st.sampled_from(SHREDS) | st.text(max_size=5)).map("".join)
Pair = tuple[Tokenizer, tiktoken.Encoding]


def encoding(ranks: Ranks) -> tiktoken.Encoding:
    return tiktoken.Encoding("ours", **ranks._asdict())


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """Tokenizers of every named pattern, and the encodings made of their ranks."""
    options = [Options(pattern=pattern, special_tokens="chat") for pattern in PATTERNS]
    trained = [tokenization.train("bpe", CORPUS, 380, each) for each in options]
    return [(tokenizer, encoding(ranks_of(tokenizer))) for tokenizer in trained]


@given(text=texts)
def test_tiktoken_gives_the_same_ids_for_any_text(pairs: list[Pair], text: str):
    for tokenizer, theirs in pairs:
        ids = tokenizer.encode(text).tolist()
        assert theirs.encode(text, disallowed_special=()) == ids
        assert theirs.decode(ids) == text


def test_the_tokenizers_compared_merge_and_differ(pairs: list[Pair]):
    found = {tuple(tokenizer.encode(CORPUS[1]).tolist()) for tokenizer, _ in pairs}
    assert len(found) == len(pairs) == 3
    assert all(len(ids) < len(CORPUS[1].encode()) / 2 for ids in found)


def test_special_tokens_have_the_same_ids(pairs: list[Pair]):
    for tokenizer, theirs in pairs:
        assert theirs.encode(BOS, allowed_special="all") == [tokenizer.bos_id]
        assert theirs.n_vocab == tokenizer.vocab_size


def test_tiktoken_reads_the_file(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    ranks = ranks_of(pairs[0][0])
    (tmp_path / "ours.tiktoken").write_text(ranks.to_file())
    assert load_tiktoken_bpe(str(tmp_path / "ours.tiktoken")) == ranks.mergeable_ranks
    assert ranks.to_file().startswith("IQ== 0\nIg== 1\n")


def test_any_other_expression_travels_too():
    options = Options(pattern=r"\p{L}+|[\s\S]")
    tokenizer = tokenization.train("bpe", CORPUS, 300, options)
    ranks = ranks_of(tokenizer)
    assert ranks.pat_str == options.pattern
    ids = encoding(ranks).encode("the first line, 12")
    assert ids == tokenizer.encode("the first line, 12").tolist()


def foreign(**changes: object) -> Tokenizer:
    """A tokenizer in the manner of GPT-2, its special token first, with changes to its file."""
    theirs = library.Tokenizer(library.models.BPE())
    theirs.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(CORPUS, trainer)
    content = json.loads(theirs.to_str())
    model = content["model"] | changes.pop("model", {})
    return tokenization.tokenizers["bpe"].parse(content | changes | {"model": model})


@pytest.mark.parametrize("whole_words", [False, True])
def test_a_file_of_the_library_is_exported_with_its_special_tokens(whole_words: bool):
    tokenizer = foreign(model={"ignore_merges": whole_words})
    theirs = encoding(ranks_of(tokenizer))
    assert theirs.encode("<|endoftext|>", allowed_special="all") == [0]
    for text in CORPUS:
        assert theirs.encode(text) == tokenizer.encode(text).tolist()


def swapped() -> dict:
    """Changes that give two merged tokens each other's id."""
    vocabulary = json.loads(foreign().to_json())["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.__getitem__)[-2:]
    return {"vocab": vocabulary | {first: vocabulary[second], second: vocabulary[first]}}


def unreachable() -> dict:
    """Changes that add a token which no merge makes."""
    return {"vocab": json.loads(foreign().to_json())["model"]["vocab"] | {"zzzz": 300}}


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"normalizer": {"type": "NFC"}}, "it normalizes text"),
        ({"model": swapped()}, "do not follow the order of its merges"),
        ({"model": unreachable()}, "do not follow the order of its merges"),
        ({"model": unreachable() | {"ignore_merges": True}}, "do not follow the order"),
    ],
)
def test_a_tokenizer_whose_ids_would_differ_is_refused(changes: dict, reason: str):
    with pytest.raises(TokenizerError, match=reason):
        ranks_of(foreign(**changes))


def test_a_plain_added_token_and_several_rules_of_cutting_are_refused():
    content = json.loads(foreign().to_json())
    theirs = library.Tokenizer.from_str(json.dumps(content))
    theirs.add_tokens(["New York"])
    with pytest.raises(TokenizerError, match="'New York' was added"):
        ranks_of(tokenization.tokenizers["bpe"].parse(json.loads(theirs.to_str())))
    digits = {"type": "Digits", "individual_digits": True}
    both = {"type": "Sequence", "pretokenizers": [digits, content["pre_tokenizer"]]}
    with pytest.raises(TokenizerError, match="other rules than one regular expression"):
        ranks_of(foreign(pre_tokenizer=both))


@pytest.mark.parametrize("kind", ["char", "word"])
def test_only_a_bpe_has_ranks(kind: str):
    with pytest.raises(TokenizerError, match=f"a {kind} tokenizer has no ranks"):
        ranks_of(tokenization.train(kind, CORPUS, 0))
