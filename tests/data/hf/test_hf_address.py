"""The grammar of hf:// and its knobs: what is wrong is refused before anything is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.data.network import http
from nanogpt_jax.data.sources import parse_source
from nanogpt_jax.data.sources.hf.selection import Selection, parse, read_knobs
from nanogpt_jax.errors import ConfigError


def test_the_address_says_what_is_read():
    assert parse("//o/d") == Selection("o/d", None, "default", "train", "text", None, 0)
    assert parse(
        "//o-1/d_2.x@v1.0?config=a/b-c&split=test&column=body&rows=7&offset=3"
    ) == Selection("o-1/d_2.x", "v1.0", "a/b-c", "test", "body", 7, 3)
    assert parse("//o/d?limit=5").rows == 5


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("", "hf://ORG/DATASET"),
        ("o/d", "hf://ORG/DATASET"),
        ("//d", "hf://ORG/DATASET"),
        ("//o/d/e", "hf://ORG/DATASET"),
        ("///d", "organisation=''"),
        ("//o/", "dataset=''"),
        ("//o/..", "dataset='..'"),
        ("//o d/e", "organisation='o d'"),
        ("//o/d@", "revision=''"),
        ("//o/d@refs%2Fpr", "revision="),
        ("//o/d@.", "revision='.'"),
        ("//o/d?", "empty"),
        ("//o/d?rows=1&", "empty"),
        ("//o/d?rows", "'rows' has no value"),
        ("//o/d?rows=", "'rows' has no value"),
        ("//o/d?rows=0", "rows='0'"),
        ("//o/d?rows=-1", "rows='-1'"),
        ("//o/d?rows=1e3", "rows='1e3'"),
        ("//o/d?rows=²", "rows='²'"),
        ("//o/d?offset=x", "offset='x'"),
        ("//o/d?rows=1&limit=1", "given twice"),
        ("//o/d?column=a&column=b", "given twice"),
        ("//o/d?colunm=text", "did you mean 'column'"),
        ("//o/d?config=a//b", "config='a//b'"),
        ("//o/d?config=../b", "config='../b'"),
        ("//o/d?split=a/b", "split='a/b'"),
        ("//o/d?column=a%20b", "column='a%20b'"),
    ],
)
def test_an_address_that_means_nothing_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, argument: str, words: str
):
    monkeypatch.setattr(http, "fetch", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ConfigError) as caught:
        parse_source(f"hf:{argument}")
    assert words in str(caught.value) and f"hf:{argument}" in str(caught.value)


def test_all_problems_of_an_address_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse("//o/..?rows=0&x=1&split=")
    assert len(caught.value.problems) == 4


@given(argument=st.text(st.sampled_from("/@?=&.ordw1é "), max_size=20).map("//o/d".__add__))
def test_no_address_ends_in_anything_but_a_selection_or_a_config_error(argument: str):
    try:
        selection = parse(argument)
    except ConfigError:
        return
    written = {*selection.dataset, *selection.config, *selection.split, *selection.column}
    assert not written & set("?=&@é ")


def test_a_wrong_knob_is_refused_by_name():
    wrong = {
        "NANOGPT_HF_REQUEST_DELAY_MS": "fast",
        "NANOGPT_HF_MAX_RETRIES": "-1",
        "NANOGPT_HF_ROWS_ENDPOINT": "nowhere",
    }
    with pytest.raises(ConfigError) as caught:
        read_knobs(wrong)
    assert len(caught.value.problems) == 3
    knobs = read_knobs({"NANOGPT_HF_MAX_RETRIES": "0", "NANOGPT_HF_RETRY_BASE_DELAY_MS": ""})
    assert (knobs.pause_seconds, knobs.retries) == (0.25, http.Retries(0, 1.0))
