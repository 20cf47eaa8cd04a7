"""The fields of a config that decide a tokenizer are checked before any file, and are followed."""

from pathlib import Path

import pytest

from nanogpt_jax import config, tokenization
from nanogpt_jax.data.corpus import Corpus, Documents, Parts
from nanogpt_jax.data.store import open_tokenizer
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import default_config, resolve
from nanogpt_jax.tokenization import Options


def corpus() -> Corpus:
    parts = Parts(Documents(["new newer newest\n" * 3]), Documents(["wide\n"]))
    return Corpus("words", "words", False, lambda _: parts)


@pytest.mark.parametrize(
    "address, text, reason",
    [
        ("tokenizer.pattern", "(", "must be compact, gpt2, gpt4 or an Oniguruma regular"),
        ("tokenizer.pattern", "gtp4", "must be compact, gpt2, gpt4 or an Oniguruma regular"),
        ("tokenizer.min_pair_count", "0", "must be greater than 0"),
        ("tokenizer.special_tokens", "caht", "did you mean 'chat'?"),
        ("tokenizer.unknown", "guess", "is not known"),
    ],
)
def test_a_field_that_can_mean_nothing_is_a_problem_of_the_config(
    address: str, text: str, reason: str
):
    with pytest.raises(ConfigError, match=reason) as told:
        resolve(default_config(), [(address, text)])
    assert len(told.value.problems) == 1 and address in told.value.problems[0]


def test_the_fields_of_a_config_are_the_options_of_training():
    plan = resolve(default_config(), [("tokenizer.pattern", r"\w+"), ("tokenizer.kind", "bpe")])
    assert isinstance(plan.tokenizer, Options) and isinstance(plan.tokenizer, config.Tokenizer)
    defaults = resolve(default_config()).tokenizer
    assert all(getattr(defaults, name) == value for name, value in vars(Options()).items())


def test_a_tokenizer_is_learned_with_the_options_and_anew_for_others():
    asked = [
        Options(),
        Options(pattern="gpt2"),
        Options(min_pair_count=4),
        Options(special_tokens="chat"),
    ]
    opened = [open_tokenizer(corpus(), "bpe", 280, 0.1, each) for each in asked]
    expected = [tokenization.train("bpe", ["new newer newest\n" * 3], 280, each) for each in asked]
    assert [each.sha256 for each in opened] == [each.sha256 for each in expected]
    assert len({each.sha256 for each in opened}) == len(asked)


def test_words_are_taken_from_the_held_out_part_too():
    tokenizer = open_tokenizer(corpus(), "word", 0, 0.1)
    assert tokenizer.decode(tokenizer.encode("newest wide")) == "newest wide"


def test_a_folder_is_opened_and_given_the_special_tokens_of_the_config(tmp_path: Path):
    tokenization.train("char", ["abc"], 0).save(tmp_path / "tokenizer.json")
    assert len(tokenization.load(tmp_path).special_ids) == 1
    assert len(tokenization.load(tmp_path, "chat").special_ids) == 12
