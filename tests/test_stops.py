"""Stop strings: never printed, not even in part, however the text is cut into pieces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import sample
from nanogpt_jax.interface import KVCache, LanguageModel, ModelOutput
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.stops import StopStrings, write
from nanogpt_jax.tokenization.decoder import Decoder


def pushed(pieces: Sequence[str], stops: Sequence[str]) -> tuple[str, str | None]:
    ending = StopStrings(stops)
    text = "".join(ending.push(piece) for piece in pieces) + ending.flush()
    return text, ending.found


def written(text: str, *stops: str) -> str:
    """`text` through a token for each byte."""
    return "".join(write(text.encode(), Decoder(lambda token: bytes([token])), stops))


@pytest.mark.parametrize(
    "text, stops, expected",
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["four"], "one two three"),
        ("one two", ["two three"], "one two"),  # held back, and given at the end
        ("aaab", ["aab"], "a"),
        ("ababac", ["abac"], "ab"),
        ("abcd", ["abcd", "bc"], "a"),  # bc is complete first
        ("abc", ["c", "abc", "bc"], ""),  # of those complete at once, the longest
        ("abc", [""], "abc"),
        ("", ["a"], ""),
        ("was läuft — ja", ["— "], "was läuft "),
        ("日本語", ["語"], "日本"),
    ],
)
def test_a_text_ends_before_its_first_stop_string(text: str, stops: list[str], expected: str):
    found = next(
        (stop for stop in stops if stop and expected + stop == text[: len(expected + stop)]), None
    )
    assert pushed([text], stops) == pushed(list(text), stops) == (expected, found)
    assert written(text, *stops) == expected


@given(
    text=st.text("abc", max_size=12),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
def test_pieces_change_nothing_and_no_certain_text_is_taken_back(
    text: str, stops: list[str], cuts: list[int]
):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    ends = [
        (at + len(stop), at)
        for stop in stops
        for at in range(len(text))
        if text.startswith(stop, at)
    ]
    expected = text[: min(ends)[1]] if ends else text
    ending, so_far, length = StopStrings(stops), "", 0
    for piece in pieces:
        so_far, length = so_far + ending.push(piece), length + len(piece)
        assert expected.startswith(so_far)
        if ending.found is None:  # what is held back could yet become a stop string
            held = text[len(so_far) : length]
            assert not held or any(stop.startswith(held) for stop in stops)
    assert so_far + ending.flush() == expected
    assert (ending.found is not None) == bool(ends)


def test_text_is_given_as_soon_as_it_is_certain():
    ending = StopStrings(["User:"])
    assert [ending.push(piece) for piece in ("Hi", " U", "se", "d", "\nUser", ":", "x")] == [
        *("Hi", " ", "", "Used", "\n", "", "")
    ]
    assert (ending.found, ending.flush()) == ("User:", "")


def test_no_token_is_taken_after_a_stop_string_that_spans_tokens():
    tokens = iter(b"well END of it")
    decoder = Decoder(lambda token: bytes([token]))
    assert list(write(tokens, decoder, ["END"]))[-3:] == ["", "", ""]
    assert bytes(tokens) == b" of it"


def test_an_unfinished_character_at_the_end_is_given_as_the_replacement():
    pieces = write(b"a\xe2\x82", Decoder(lambda token: bytes([token])), ["b"])
    assert list(pieces) == ["a", "", "", "\ufffd"]


def alphabet() -> Any:
    """A run whose model writes after each byte the next one."""

    def apply(params: Any, inputs_BT: Any, *, cache: KVCache | None = None) -> ModelOutput:
        return ModelOutput(jax.nn.one_hot(inputs_BT + 1, 256) * 100, cache, {}, {})

    def empty_cache(batch: int, length: int) -> KVCache:
        del length
        return KVCache((), (), jnp.zeros(batch, jnp.int32))

    return SimpleNamespace(
        model=LanguageModel(lambda _: {}, apply, lambda _, hidden: hidden, {}, empty_cache),
        params={},
        shape=SimpleNamespace(max_seq_len=64),
        tokenizer=SimpleNamespace(
            decoder=lambda: Decoder(lambda token: bytes([token])), stop_ids=frozenset(b"z")
        ),
    )


@pytest.mark.parametrize(
    "stop, text", [("hij", "defg"), ("def", ""), ("", "defghijklmnopqrstuvwxy")]
)
def test_the_sample_command_ends_before_its_stop_string(
    stop: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sample.experiment, "load", lambda workdir, step: alphabet())
    monkeypatch.setattr(sample.experiment, "prompt_tokens", lambda run, text: list(text.encode()))
    sample.main(workdir=Path(), prompt="abc", stop=stop, sampling=Sampling(seed=1))
    assert capsys.readouterr().out == f"abc{text}\n"
