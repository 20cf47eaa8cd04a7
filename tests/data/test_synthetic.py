"""`synthetic:`: its query, its corpus, and what docs/entropy.md says of both."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nanogpt_jax.data.corpus import Corpus
from nanogpt_jax.data.sources import synthetic
from nanogpt_jax.data.sources.synthetic.families import FAMILIES, markov
from nanogpt_jax.data.sources.synthetic.process import (
    Process,
    conditional_entropy,
    measure_surprise,
)
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.evaluation import ratio
from tests.opened import open_corpus, whole

DOCUMENT = Path(__file__).parents[2] / "docs" / "entropy.md"


def open_synthetic(argument: str) -> Corpus:
    return open_corpus(f"synthetic:{argument}")


def test_the_parts_are_one_text_with_the_surprise_of_every_character():
    corpus = open_synthetic("markov?order=1&states=27&length=5000&seed=3")
    assert corpus.running and corpus.truth is not None
    train, val = corpus.read(0.2)
    assert [len(text) for part in (train, val) for text in part.texts] == [4000, 1000]
    assert train.nats is not None and val.nats is not None
    nats_T = np.concatenate((train.nats, val.nats))
    assert nats_T.dtype == np.float64 and len(nats_T) == 5000
    for text, nats in [(whole(train), train.nats), (whole(train) + whole(val), nats_T)]:
        assert corpus.truth.log_probability(text) == pytest.approx(-np.sum(nats), rel=1e-12)
    process = markov(order=1, states=27, seed=3)
    assert corpus.truth.entropy_nats_per_character == process.entropy_rate
    assert corpus.truth.log_probability("\n") is None


def test_the_corpus_is_a_function_of_the_query_in_every_process():
    sources = ["markov?length=3000", "hmm?length=3000"]
    code = (
        "import hashlib, sys\n"
        "from nanogpt_jax.data.corpus import Opening\n"
        "from nanogpt_jax.data.sources.synthetic import synthetic\n"
        "for source in sys.argv[1:]:\n"
        "    corpus = synthetic(source)(Opening())\n"
        "    text = corpus.read(0.5).train.texts[0]\n"
        "    print(corpus.fingerprint, hashlib.sha256(text.encode()).hexdigest())\n"
    )
    run = [sys.executable, "-c", code, *sources]
    ended = subprocess.run(run, capture_output=True, text=True, check=True)
    here = [open_synthetic(source) for source in sources]
    texts = [whole(corpus.read(0.5).train).encode() for corpus in here]
    assert ended.stdout.split() == [
        value
        for corpus, text in zip(here, texts, strict=True)
        for value in (corpus.fingerprint, hashlib.sha256(text).hexdigest())
    ]


def test_the_identity_names_every_value_and_the_fingerprint_follows_each():
    plain = open_synthetic("hmm?length=1000")
    assert plain.identity == "synthetic:hmm?states=8&symbols=4&concentration=0.5&seed=0&length=1000"
    assert open_corpus(plain.identity).fingerprint == plain.fingerprint
    changes = ("states=9", "symbols=3", "concentration=1", "seed=1")
    changed = [open_synthetic(f"hmm?length=1000&{change}") for change in changes]
    changed += [open_synthetic("hmm?length=1001"), open_synthetic("markov?length=1000")]
    assert len({corpus.fingerprint for corpus in (plain, *changed)}) == 7


def test_the_fingerprint_follows_the_code_and_the_numbers_drawn(monkeypatch: pytest.MonkeyPatch):
    prints = [open_synthetic("hmm?length=100").fingerprint]
    for name, other in (
        ("code_digest", lambda _: "other code"),
        ("write_text", lambda *_: "other"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(synthetic, name, other)
            prints.append(open_synthetic("hmm?length=100").fingerprint)
    assert len(set(prints)) == 3


def test_reading_twice_writes_the_text_once(monkeypatch: pytest.MonkeyPatch):
    corpus = open_synthetic("markov?length=100")
    before = whole(corpus.read(0.1).train)
    monkeypatch.setattr(synthetic, "write_text", lambda *_: pytest.fail("written again"))
    assert whole(corpus.read(0.2).train) == before[:80]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("", "synthetic:markov?order=2&states=8 is required"),
        ("markow", "did you mean 'markov'?"),
        ("markov?ordr=2", "data.source=synthetic:markov, key='ordr' is not known; did you mean"),
        ("markov?symbols=2", "known: concentration, length, order, seed, states"),
        ("markov?order", "synthetic:markov?order='': a value of type int is required"),
        ("markov?order=two", "synthetic:markov?order='two': a value of type int is required"),
        ("markov?order=0", "synthetic:markov?order=0 must lie between 1 and 10"),
        ("markov?order=1&order=2", "synthetic:markov?order is given twice"),
        ("markov?order=3&states=26", "has 17576 contexts of 3 characters, at most 1024"),
        ("markov?states=96", "must lie between 2 and 95"),
        ("markov?concentration=nan", "a finite number is required"),
        ("hmm?seed=-1", "must be at least 0"),
        ("hmm?states=2000", "must lie between 1 and 1024"),
        ("hmm?length=0", "must lie between 1 and 10000000"),
        ("hmm?seed=1&", "synthetic:hmm, key='' is not known"),
    ],
)
def test_a_wrong_query_is_one_line_before_anything_is_computed(
    argument: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(np.random, "default_rng", lambda *_: pytest.fail("something was drawn"))
    with pytest.raises(ConfigError) as caught:
        open_synthetic(argument)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_all_that_is_wrong_with_a_query_is_said_at_once():
    with pytest.raises(ConfigError) as caught:
        open_synthetic("markov?order=x&states=1&seeds=3")
    assert len(caught.value.problems) == 3


def test_a_process_has_no_documents():
    with pytest.raises(ConfigError, match=r"no documents; set data\.format=stream"):
        open_corpus("synthetic:hmm", documents=True)


# What the entropy is good for


def count_rows(
    process: Process, k: int, seen: str, held_out: str, row: int = 32
) -> tuple[float, float]:
    """The excess and its error of what follows k characters in `seen`, over rows of `held_out`."""

    def split(text: str) -> tuple[np.ndarray, np.ndarray]:
        codes_T = np.array([process.alphabet.index(character) for character in text])
        before_TK = np.lib.stride_tricks.sliding_window_view(codes_T, k)[:-1]
        return before_TK @ V ** np.arange(k), codes_T[k:]

    V = len(process.alphabet)
    counts = np.full((V**k, V), 0.1)
    np.add.at(counts, split(seen), 1.0)
    loss_T = -np.log((counts / counts.sum(axis=1, keepdims=True))[split(held_out)])
    excess_T = loss_T - measure_surprise(process, held_out)[k:]
    rows = len(excess_T) // row
    return ratio(excess_T[: rows * row].reshape(rows, row).sum(axis=1), np.full(rows, float(row)))


def test_a_table_that_has_seen_the_held_out_text_falls_below_the_entropy_and_no_honest_one_does():
    """The corpus that docs/entropy.md recommends for trying out leaks, and its numbers."""
    corpus = open_synthetic("markov?order=1&states=26&concentration=1&length=10000")
    process = markov(order=1, states=26, concentration=1.0)
    seen, held_out = (whole(part) for part in corpus.read(0.1))
    honest, honest_error = count_rows(process, 1, seen, held_out)
    assert 0 < honest < 0.1 and honest_error < 0.02
    leaked, leaked_error = count_rows(process, 1, held_out, held_out)
    assert leaked < -15 * leaked_error
    # Half a nat for each free number of the table, shared by the characters (Wilks 1938).
    assert leaked == pytest.approx(-26 * 25 / 2 / len(held_out), abs=0.05)
    document = " ".join(DOCUMENT.read_text().split())
    assert f"{-leaked:.3f} nats below it, with an error of {leaked_error:.3f}" in document
    assert f"{honest:.3f} nats above the entropy, with an error of {honest_error:.3f}" in document


def test_the_documented_entropies_are_the_right_ones():
    rows = re.findall(r"^\| `synthetic:(\w+)` \|([\d. |]+)\|$", DOCUMENT.read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == FAMILIES.keys()
    for name, cells in rows:
        process = FAMILIES[name]()
        exact = [conditional_entropy(process, k) for k in range(4)] + [process.entropy_rate]
        assert [float(cell) for cell in cells.split("|")] == [round(nats, 4) for nats in exact]
