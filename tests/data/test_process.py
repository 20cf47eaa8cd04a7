"""A known process: every closed form against a count, an enumeration or a known answer."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.data.sources.synthetic.families import ALPHABET, FAMILIES, SPREAD, hmm, markov
from nanogpt_jax.data.sources.synthetic.process import (
    Process,
    conditional_entropy,
    log_probability,
    measure_surprise,
    write_text,
)

seeds = st.integers(0, 2**32 - 1)
concentrations = st.floats(0.01, 100)
markovs = st.builds(
    markov,
    order=st.integers(1, 3),
    states=st.integers(2, 4),
    concentration=concentrations,
    seed=seeds,
)
hmms = st.builds(
    hmm,
    states=st.integers(1, 6),
    symbols=st.integers(2, 3),
    concentration=concentrations,
    seed=seeds,
)
processes = st.one_of(markovs, hmms)

# After a 0 a 1 must follow; ones come in pairs (Weiss 1973); a fair coin says the rest.
GOLDEN_MEAN = Process("01", np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([[1, 0], [0, 0]]))
EVEN = Process("01", np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([[0, 1], [0, 0]]))
# Both symbols swap the states: no text ever tells the state for certain.
SWAPPING = Process("01", np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[1, 1], [0, 0]]))
# Of two symbols one is never said, and the other tells nothing.
SILENT = Process("01", np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1, 0], [0, 0]]))


def strings(process: Process, length: int) -> Iterator[str]:
    return map("".join, itertools.product(process.alphabet, repeat=length))


def walk(process: Process, text: str, state: int) -> float:
    """p(text | state), one character after the other."""
    probability = 1.0
    for character in text:
        symbol = process.alphabet.index(character)
        probability *= float(process.odds_SV[state, symbol])
        state = int(process.next_SV[state, symbol])
    return probability


def entropy(probabilities: list[float]) -> float:
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0)


def mean_and_error(values_T: np.ndarray, batches: int = 100) -> tuple[float, float]:
    """The mean of values that depend on their neighbours, and its error by means of batches."""
    means = values_T.reshape(batches, -1).mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(batches))


# Closed forms


@given(processes)
def test_a_step_leaves_the_stationary_distribution_as_it_is(process: Process):
    shares_S = process.stationary_S
    assert np.abs(shares_S @ process.transitions_SS() - shares_S).max() <= 1e-12
    assert abs(shares_S.sum() - 1) <= 1e-12 and np.all(shares_S > 0)


def test_the_smallest_shares_are_exact_to_every_digit():
    """A walk that climbs with p and falls with 1 - p stays near the ground, geometrically."""
    climb, heights = 1e-3, np.arange(12)
    odds_SV = np.tile([climb, 1 - climb], (12, 1))
    next_SV = np.stack([np.minimum(heights + 1, 11), np.maximum(heights - 1, 0)], axis=1)
    shares_S = Process("ud", odds_SV, next_SV).stationary_S
    expected_S = (climb / (1 - climb)) ** heights
    np.testing.assert_allclose(shares_S, expected_S / expected_S.sum(), rtol=1e-12)
    assert shares_S[-1] < 1e-32


def test_states_that_are_hardly_ever_left_have_exact_shares():
    """On a ring a state's share is proportional to the time until it is left."""
    leave_S = np.array([1e-13, 3e-13, 7e-14])
    odds_SV = np.stack([leave_S, 1 - leave_S], axis=1)
    shares_S = Process("ls", odds_SV, np.array([[1, 0], [2, 1], [0, 2]])).stationary_S
    np.testing.assert_allclose(shares_S, (1 / leave_S) / (1 / leave_S).sum(), rtol=1e-12)


@given(processes)
def test_every_state_leads_to_every_other(process: Process):
    reached_SS = process.transitions_SS() > 0
    for _ in reached_SS:
        reached_SS = reached_SS | (reached_SS @ reached_SS)
    assert reached_SS.all()


@pytest.mark.parametrize("process", [GOLDEN_MEAN, EVEN])
def test_the_golden_mean_and_the_even_process_have_two_thirds_of_a_bit(process: Process):
    np.testing.assert_allclose(process.stationary_S, [2 / 3, 1 / 3], rtol=1e-15)
    assert process.entropy_rate == pytest.approx(2 / 3 * math.log(2), rel=1e-15)


def test_one_symbol_tells_the_state_of_the_golden_mean_and_none_that_of_the_even_process():
    assert conditional_entropy(GOLDEN_MEAN, 1) == pytest.approx(GOLDEN_MEAN.entropy_rate, rel=1e-14)
    assert conditional_entropy(EVEN, 12) > EVEN.entropy_rate + 1e-3


@given(processes, st.integers(1, 4))
def test_the_entropies_are_those_of_all_texts_enumerated(process: Process, length: int):
    blocks = [0.0]
    for size in range(1, length + 1):
        blocks.append(
            entropy(
                [
                    math.fsum(
                        share * walk(process, text, state)
                        for state, share in enumerate(process.stationary_S.tolist())
                    )
                    for text in strings(process, size)
                ]
            )
        )
        exact = conditional_entropy(process, size - 1)
        assert exact == pytest.approx(blocks[size] - blocks[size - 1], abs=1e-12)
    # Given the first state, each further symbol costs the rate.
    given_state = [
        share * entropy([walk(process, text, state) for text in strings(process, length)])
        for state, share in enumerate(process.stationary_S.tolist())
    ]
    assert math.fsum(given_state) == pytest.approx(length * process.entropy_rate, abs=1e-12)


@given(seeds)
def test_memory_of_one_character_is_not_enough_for_order_two(seed: int):
    process = markov(order=2, states=4, seed=seed)
    h0, h1, h2, h3 = (conditional_entropy(process, k) for k in range(4))
    assert h0 >= h1 > h2 + 1e-3
    assert h2 == pytest.approx(process.entropy_rate, abs=1e-12)
    assert h3 == pytest.approx(process.entropy_rate, abs=1e-12)


@given(hmms)
def test_a_longer_memory_never_loses_more_and_never_less_than_the_rate(process: Process):
    entropies = [conditional_entropy(process, k) for k in range(6)]
    for longer, shorter in itertools.pairwise([process.entropy_rate, *reversed(entropies)]):
        assert longer <= shorter + 1e-12


# Texts and their probabilities


@pytest.mark.parametrize("name", FAMILIES)
def test_the_entropy_rate_is_the_mean_surprise_of_a_million_characters(name: str):
    process = FAMILIES[name]()
    mean, error = mean_and_error(measure_surprise(process, write_text(process, 10**6, seed=1)))
    assert 0 < error < 0.002
    assert abs(mean - process.entropy_rate) < 3 * error


def test_a_counted_bigram_table_reaches_the_order_1_conditional_entropy():
    process = markov(order=2, states=8)
    text = write_text(process, 10**6, seed=1)
    codes = np.frombuffer(text.encode(), np.uint8) - ord("a")
    seen, held_out = codes[:500_000], codes[500_000:]
    counts_VV = np.bincount(seen[:-1] * 8 + seen[1:], minlength=64).reshape(8, 8) + 1.0
    table_VV = counts_VV / counts_VV.sum(axis=1, keepdims=True)
    loss = -np.log(table_VV[held_out[:-1], held_out[1:]]).mean()
    assert abs(loss - conditional_entropy(process, 1)) < 0.005
    assert conditional_entropy(process, 1) > process.entropy_rate + 0.4


@given(processes, st.integers(0, 5))
def test_the_probabilities_of_all_texts_of_a_length_add_up_to_one(process: Process, length: int):
    found = [log_probability(process, text) for text in strings(process, length)]
    assert math.fsum(math.exp(p) for p in found if p is not None) == pytest.approx(1, abs=1e-12)


@given(processes | st.sampled_from([EVEN, GOLDEN_MEAN, SILENT, SWAPPING]), st.data())
def test_the_surprise_is_that_of_the_whole_forward_algorithm(process: Process, data: Any):
    """Any text, likely or not; the forward algorithm has a matrix for each symbol."""
    symbols = data.draw(st.lists(st.integers(0, len(process.alphabet) - 1), max_size=60))
    S, V = process.odds_SV.shape
    steps_VSS = np.zeros((V, S, S))
    for state, symbol in np.ndindex(S, V):
        steps_VSS[symbol, state, process.next_SV[state, symbol]] = process.odds_SV[state, symbol]
    alpha_S, expected = process.stationary_S, []
    for symbol in symbols:
        after_S = alpha_S @ steps_VSS[symbol]
        probability = after_S.sum() / alpha_S.sum() if alpha_S.any() else 0.0
        expected.append(-math.log(probability) if probability > 0 else math.inf)
        alpha_S = after_S
    text = "".join(process.alphabet[symbol] for symbol in symbols)
    np.testing.assert_allclose(measure_surprise(process, text), expected, rtol=1e-9, atol=1e-12)


def test_a_belief_that_was_almost_certain_can_still_be_overturned():
    text = "01" * 20 + "10" * 40
    nats = measure_surprise(SWAPPING, text).sum()
    shares = SWAPPING.stationary_S.tolist()
    likely, unlikely = sorted(p * walk(SWAPPING, text, s) for s, p in enumerate(shares))[::-1]
    assert nats == pytest.approx(-math.log(likely + unlikely), rel=1e-12)
    at_first = [walk(SWAPPING, text[:40], state) for state in (0, 1)]
    assert at_first[0] > 1e20 * at_first[1] and unlikely == shares[0] * walk(SWAPPING, text, 0)


def test_a_text_that_cannot_be_has_no_probability():
    assert log_probability(GOLDEN_MEAN, "1101") == pytest.approx(math.log(2 / 3 / 8 + 1 / 3 / 4))
    assert log_probability(GOLDEN_MEAN, "11001") is None
    assert log_probability(GOLDEN_MEAN, "12") is None
    assert log_probability(EVEN, "0110") is not None
    assert log_probability(EVEN, "010") is None
    assert log_probability(EVEN, "") == 0.0


@given(markovs)
def test_no_character_costs_more_than_the_spread_allows(process: Process):
    V = len(process.alphabet)
    assert -np.log(process.odds_SV.min()) <= math.log(V / SPREAD) + 1e-12
    np.testing.assert_allclose(process.odds_SV.sum(axis=1), 1, rtol=1e-12)


def test_texts_differ_by_seed_and_a_shorter_one_is_the_beginning_of_a_longer():
    process = hmm()
    text = write_text(process, 100_000, seed=5)
    assert len(text) == 100_000 and set(text) == set(process.alphabet)
    assert write_text(process, 70_000, seed=5) == text[:70_000]
    assert write_text(process, 100, seed=6) != text[:100]


def test_every_alphabet_is_printable_and_without_line_breaks():
    assert len(set(ALPHABET)) == len(ALPHABET) == 95
    assert ALPHABET.isascii() and ALPHABET.isprintable()
