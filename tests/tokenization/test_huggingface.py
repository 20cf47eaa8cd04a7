"""Our file in the hands of Hugging Face's libraries gives our ids."""

from pathlib import Path
from typing import Any

import pytest
import tokenizers as library
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.tokenization import Options, Tokenizer
from nanogpt_jax.tokenization.patterns import PATTERNS

CORPUS = [
    "It's the first line.\r\n\r\n\tThe 2nd isn't.\n" * 2,
    "Größe 東京 मराठी 😀👩‍👧 e\u0301 1234567\n" * 3,
]
SHREDS = ["<|bos|>", "<|eos|>", "'LL", "the", "  ", "\r\n", "\u2028", "123", "\u0301", "👩‍👧"]
texts = st.lists(st.sampled_from(SHREDS) | st.text(max_size=5)).map("".join)


@pytest.fixture(scope="module", params=list(PATTERNS))
def ours(request: pytest.FixtureRequest) -> Tokenizer:
    options = Options(pattern=request.param, special_tokens="chat")
    return tokenization.train("bpe", CORPUS, 340, options)


@pytest.fixture(scope="module")
def file(ours: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    ours.save(path)
    return path


@given(text=texts)
def test_the_tokenizers_library_gives_the_same_ids_where_special_tokens_are_text(
    ours: Tokenizer, file: Path, text: str
):
    theirs = library.Tokenizer.from_file(str(file))
    theirs.encode_special_tokens = True
    ids = theirs.encode(text).ids
    assert ids == ours.encode(text).tolist()
    assert theirs.decode(ids, skip_special_tokens=False) == text


@pytest.fixture(scope="module")
def fast(file: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file))


@pytest.mark.parity
@given(text=texts)
def test_transformers_gives_the_same_ids(ours: Tokenizer, fast: Any, text: str):
    ids = fast(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ids == ours.encode(text).tolist()
    assert fast.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parity
def test_transformers_knows_the_special_tokens_by_the_same_ids(ours: Tokenizer, fast: Any):
    ids = fast("".join(ours.special_ids), add_special_tokens=False)["input_ids"]
    assert ids == list(ours.special_ids.values()) and len(ids) == 12
    assert fast.convert_tokens_to_ids("<|bos|>") == ours.bos_id
