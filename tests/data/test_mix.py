"""`mix:`: shares and sources, refused before anything is opened."""

from pathlib import Path

import pytest

from nanogpt_jax.data.corpus import AnyCorpus, Corpus, Mixture, Opening
from nanogpt_jax.data.sources import parse_source
from nanogpt_jax.errors import ConfigError


def opened(source: str, documents: bool = False) -> AnyCorpus:
    return parse_source(source)(Opening(documents))


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[str, str]:
    for name in ("one+two.txt", "three.txt"):
        (tmp_path / name).write_text(f"{name}\n" * 20)
    return f"text:{tmp_path}/one+two.txt", f"text:{tmp_path}/three.txt"


def test_shares_are_scaled_to_one_and_a_plus_in_a_path_stays(two_files: tuple[str, str]):
    mixture = opened(f"mix:3*{two_files[0]}+.75*{two_files[1]}")
    assert isinstance(mixture, Mixture)
    assert [share for share, _ in mixture.parts] == [0.8, 0.2]
    assert [part.identity for _, part in mixture.parts] == ["text:one+two.txt", "text:three.txt"]
    assert mixture.identity == "mix:0.8*text:one+two.txt+0.2*text:three.txt"
    assert mixture.running and mixture.truth is None


def test_documents_with_running_text_are_documents(two_files: tuple[str, str]):
    mixture = opened(f"mix:0.5*{two_files[0]}+0.5*bundled:tales")
    assert isinstance(mixture, Mixture) and not mixture.running
    assert all(isinstance(part, Corpus) for _, part in mixture.parts)


def test_the_fingerprint_knows_shares_and_parts(two_files: tuple[str, str]):
    one, other = two_files
    written = (f"0.5*{one}+0.5*{other}", f"0.6*{one}+0.4*{other}", f"0.5*{other}+0.5*{one}")
    assert len({opened(f"mix:{parts}").fingerprint for parts in written}) == 3
    assert opened(f"mix:1*{one}+1*{other}").fingerprint == opened(f"mix:{written[0]}").fingerprint


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("", "SHARE*SOURCE"),
        ("bundled:tales", "'bundled:tales' is no part"),
        ("0*bundled:tales", "is no part"),
        ("0.5*mix:1*bundled:tales", "is a mixture"),
        ("0.5*bundled:tails+0.5*bundled:tales", "did you mean 'tales'"),
        ("0.5*tekst:a.txt+0.5*bundled:tales", "did you mean 'text'"),
    ],
)
def test_a_mixture_that_means_nothing_is_refused_unopened(argument: str, told: str):
    with pytest.raises(ConfigError) as refused:
        parse_source(f"mix:{argument}")
    assert told in str(refused.value)


def test_all_wrong_parts_are_told_at_once():
    with pytest.raises(ConfigError) as refused:
        parse_source("mix:0.5*tekst:a+0.5*bundled:tails")
    assert len(refused.value.problems) == 2
