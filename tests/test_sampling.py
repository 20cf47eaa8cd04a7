"""Sampling: each filter keeps what it says, a neutral one leaves no trace, neighbours do nothing.

The reference is a few lines of plain Python on one row, and transformers' processors. Draws come in
one shape, compiled once with a repetition penalty and once without.
"""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import sampling
from nanogpt_jax.registry import fields_of
from nanogpt_jax.sampling import Rows, Sampling, likeliest, mark_seen, rows, seen_tokens

DRAWS, V = 4096, 6
SEEDS = np.arange(DRAWS, dtype=np.uint32)
draw = jax.jit(sampling.draw)


def many(request: Sampling) -> Rows:
    """The settings of `request` in every row, seeds 0, 1, 2 ..."""
    alike = jax.tree.map(lambda column: np.repeat(np.asarray(column), DRAWS), rows([request]))
    return alike._replace(seed_B=SEEDS)


def draw_many(
    logits: list[float],
    request: Sampling,
    *,
    index: Any = 0,
    seeds: np.ndarray = SEEDS,
    seen: Collection[int] | None = None,
) -> np.ndarray:
    """A token a seed; fewer than six logits are filled up with impossible tokens."""
    logits_V = np.array([*logits, *[-1e9] * (V - len(logits))], np.float32)
    settings = many(request)._replace(seed_B=seeds)
    index_B = np.broadcast_to(np.asarray(index, np.int32), DRAWS)
    logits_BV = np.broadcast_to(logits_V, (DRAWS, V))
    if seen is None:
        return np.asarray(draw(logits_BV, settings, index_B)[0])
    return np.asarray(draw(logits_BV, settings, index_B, flags(seen))[0])


def flags(seen: Collection[int]) -> np.ndarray:
    return np.broadcast_to(np.isin(np.arange(V), list(seen)), (DRAWS, V))


def expected(
    logits: list[float], request: Sampling, seen: Collection[int] | None = None
) -> np.ndarray:
    """The exact distribution, filter after filter in the order of the fields."""
    penalty = {token: request.repetition_penalty for token in seen or ()}
    scaled = [
        (logit / penalty.get(token, 1.0) if logit > 0 else logit * penalty.get(token, 1.0))
        / request.temperature
        for token, logit in enumerate(logits)
    ]
    ranked = sorted(range(len(scaled)), key=lambda token: -scaled[token])
    if request.top_k:
        least = scaled[ranked[min(request.top_k, len(ranked)) - 1]]
        ranked = [token for token in ranked if scaled[token] >= least]
    total = sum(math.exp(scaled[token]) for token in ranked)
    share = {token: math.exp(scaled[token]) / total for token in ranked}
    if request.top_p < 1:
        mass, last = 0.0, ranked[0]
        for token in ranked:
            if mass >= request.top_p:
                break
            mass, last = mass + share[token], token
        ranked = [token for token in ranked if scaled[token] >= scaled[last]]
    ranked = [token for token in ranked if share[token] >= request.min_p * share[ranked[0]]]
    kept = np.zeros(len(logits))
    for token in ranked:
        kept[token] = share[token]
    return kept / kept.sum()


def support(tokens: np.ndarray) -> list[int]:
    return sorted(set(tokens.tolist()))


# Few levels, so that equals are frequent, and no token so rare that it could stay undrawn.
@given(
    logits=st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0]), min_size=V, max_size=V),
    top_k=st.integers(0, V + 1),
    top_p=st.sampled_from([0.0, 0.13, 0.37, 0.61, 0.93, 1.0]),
    min_p=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    temperature=st.sampled_from([0.9, 1.0, 1.7]),
    seen=st.none() | st.sets(st.integers(0, V - 1)),
)
def test_the_tokens_that_can_be_drawn_are_those_that_the_filters_keep(
    logits: list[float],
    top_k: int,
    top_p: float,
    min_p: float,
    temperature: float,
    seen: set[int] | None,
):
    request = Sampling(
        repetition_penalty=1.3, top_k=top_k, top_p=top_p, min_p=min_p, temperature=temperature
    )
    kept = np.flatnonzero(expected(logits, request, seen)).tolist()
    assert support(draw_many(logits, request, seen=seen)) == kept


@pytest.mark.parametrize(
    "request_",
    [
        Sampling(),
        Sampling(repetition_penalty=1.4),
        Sampling(repetition_penalty=0.6, temperature=0.8, top_k=5, top_p=0.95, min_p=0.06),
        Sampling(temperature=0.5),
        Sampling(temperature=1.5, top_k=4),
        Sampling(top_p=0.8),
        Sampling(min_p=0.1),
        Sampling(temperature=0.8, top_k=5, top_p=0.95, min_p=0.06),
    ],
    ids=str,
)
def test_draws_have_the_exact_distribution(request_: Sampling):
    logits = [1.3, 0.1, -0.7, 2.0, 0.1, -2.0]
    seen = None if request_.repetition_penalty == 1 else {0, 2, 4}
    probabilities = expected(logits, request_, seen)
    chunks = [
        draw_many(logits, request_, seeds=SEEDS + DRAWS * chunk, seen=seen) for chunk in range(31)
    ]  # of eight requests, a million draws in all
    counts = np.bincount(np.concatenate(chunks), minlength=V)
    assert (counts[probabilities == 0] == 0).all()
    mean = 31 * DRAWS * probabilities[probabilities > 0]
    chi_square = np.sum((counts[probabilities > 0] - mean) ** 2 / mean)
    freedom = len(mean) - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_the_tokens_of_one_request_are_independent_of_each_other():
    shares = [0.5, 0.3, 0.2]
    seeds = np.full(DRAWS, 5, np.uint32)
    tokens = np.concatenate(
        [
            draw_many(np.log(shares).tolist(), Sampling(), seeds=seeds, index=SEEDS + DRAWS * chunk)
            for chunk in range(10)
        ]
    )
    pairs = np.bincount(3 * tokens[:-1] + tokens[1:], minlength=9)
    mean = (len(tokens) - 1) * np.outer(shares, shares).ravel()
    assert np.sum((pairs - mean) ** 2 / mean) < 8 + 4 * math.sqrt(2 * 8)


def test_top_k_keeps_ties_with_the_last():
    logits = [0.0, 2.0, 1.0, 1.0, 1.0, -1.0]
    assert support(draw_many(logits, Sampling(top_k=2))) == [1, 2, 3, 4]
    assert support(draw_many(logits, Sampling(top_k=1))) == [1]


def test_top_p_keeps_the_token_that_crosses_the_mass():
    logits = np.log([0.5, 0.3, 0.1, 0.06, 0.04]).tolist()
    assert support(draw_many(logits, Sampling(top_p=0.49))) == [0]
    assert support(draw_many(logits, Sampling(top_p=0.51))) == [0, 1]
    assert support(draw_many(logits, Sampling(top_p=0.79))) == [0, 1]
    assert support(draw_many(logits, Sampling(top_p=0.81))) == [0, 1, 2]
    assert support(draw_many(logits, Sampling(top_p=0.0))) == [0]


def test_min_p_is_a_share_of_the_likeliest():
    logits = np.log([0.5, 0.3, 0.12, 0.08]).tolist()
    assert support(draw_many(logits, Sampling(min_p=0.2))) == [0, 1, 2]
    assert support(draw_many(logits, Sampling(min_p=0.25))) == [0, 1]
    assert support(draw_many(logits, Sampling(min_p=1.0))) == [0]


def test_top_p_counts_the_mass_that_temperature_and_top_k_have_left():
    logits = np.log([0.4, 0.3, 0.2, 0.1]).tolist()
    assert support(draw_many(logits, Sampling(top_p=0.5))) == [0, 1]
    assert support(draw_many(logits, Sampling(top_p=0.5, top_k=2))) == [0]  # 4/7 of what is left
    assert support(draw_many(logits, Sampling(top_p=0.5, temperature=0.3))) == [0]


@pytest.mark.parametrize(
    "changes",
    [{"top_k": V}, {"top_k": V + 1}, {"top_k": 10**6}, {"top_p": 1.0}, {"min_p": 0.0}],
    ids=str,
)
def test_a_neutral_value_switches_its_filter_off_bit_for_bit(changes: dict[str, Any]):
    logits_BV = np.random.default_rng(0).normal(size=(DRAWS, V)).astype(np.float32)
    index_B = np.zeros(DRAWS, np.int32)
    tokens = np.argmax(logits_BV + np.asarray(first_noise(SEEDS)), axis=-1)
    assert tokens[0] != np.argmax(logits_BV[0])
    neutral = many(Sampling(**changes))
    # One row that filters leads all of them through the filters.
    filtering = neutral._replace(top_k_B=np.where(SEEDS == 0, 1, neutral.top_k_B))
    for settings in (many(Sampling()), neutral, filtering):
        drawn = np.asarray(draw(logits_BV, settings, index_B)[0])
        np.testing.assert_array_equal(drawn[1:], tokens[1:])
    assert drawn[0] == np.argmax(logits_BV[0])


def test_a_repetition_penalty_of_one_is_off_bit_for_bit_amid_rows_that_have_one():
    logits_BV = np.random.default_rng(0).normal(size=(DRAWS, V)).astype(np.float32)
    index_B = np.zeros(DRAWS, np.int32)
    settings = many(Sampling(temperature=0.7, top_p=0.9))
    plain = [np.asarray(each) for each in draw(logits_BV, settings, index_B)]
    penalty_B = np.where(SEEDS % 2, 1.0, 9.0).astype(np.float32)
    mixed = settings._replace(repetition_penalty_B=penalty_B)
    drawn = [np.asarray(each) for each in draw(logits_BV, mixed, index_B, flags({0, 3, 5}))]
    for ours, theirs in zip(drawn, plain, strict=True):
        np.testing.assert_array_equal(ours[1::2], theirs[1::2])
        assert (ours[::2] != theirs[::2]).any()


def test_nobody_pays_for_a_repetition_penalty_that_no_row_wants():
    assert seen_tokens([[1], [2]], [Sampling(), Sampling(top_k=1)], V) is None
    assert mark_seen(None, jnp.array([1, 2])) is None
    shapes = (jnp.zeros((2, V)), rows([Sampling()] * 2), jnp.zeros(2, jnp.int32))
    plain = jax.jit(sampling.draw).lower(*shapes).as_text()
    penalised = jax.jit(sampling.draw).lower(*shapes, jnp.zeros((2, V), bool)).as_text()
    assert plain.count("stablehlo.divide") < penalised.count("stablehlo.divide")


def test_seen_are_the_tokens_of_the_prompt_and_those_drawn_each_in_its_row():
    seen_BV = seen_tokens([[1, 1, 4], [0]], [Sampling(), Sampling(repetition_penalty=2.0)], V)
    assert seen_BV is not None
    assert [np.flatnonzero(row).tolist() for row in seen_BV] == [[1, 4], [0]]
    marked_BV = mark_seen(seen_BV, jnp.array([5, 0]))
    assert marked_BV is not None
    assert [np.flatnonzero(row).tolist() for row in marked_BV] == [[1, 4, 5], [0]]


def test_a_penalty_lowers_positive_and_negative_logits_and_moves_the_greedy_choice():
    greedy = Sampling(temperature=0.0, repetition_penalty=2.0)
    assert support(draw_many([3.0, 2.0, 1.0], greedy, seen={0})) == [1]
    assert support(draw_many([-1.0, -1.5, -3.0], greedy, seen={0})) == [1]
    assert support(draw_many([4.0, 2.0, 1.0], greedy, seen={0})) == [0]  # of equals the first


def test_the_penalty_comes_before_top_k_and_the_log_probability_knows_neither():
    logits = [2.0, 1.5, 1.0, 0.0, -1.0, -2.0]
    request = Sampling(repetition_penalty=4.0, top_k=1)
    assert support(draw_many(logits, request, seen={0})) == [1]
    logits_BV = np.broadcast_to(np.array(logits, np.float32), (DRAWS, V))
    _, logprob_B = draw(logits_BV, many(request), np.zeros(DRAWS, np.int32), flags({0, 1}))
    np.testing.assert_allclose(
        logprob_B, np.log(expected(logits, Sampling()))[2] + np.zeros(DRAWS), rtol=1e-5
    )


def test_alternatives_are_the_likeliest_and_of_equals_the_first():
    logits_BV = jnp.array([[0.0, 3.0, 1.0, 3.0], [2.0, 0.0, 0.0, 0.0]])
    tokens_BN, logprobs_BN = likeliest(logits_BV, 3)
    assert tokens_BN.tolist() == [[1, 3, 2], [0, 1, 2]]
    exact = jnp.take_along_axis(jax.nn.log_softmax(logits_BV), tokens_BN, axis=1)
    np.testing.assert_array_equal(logprobs_BN, exact)
    everything, _ = likeliest(logits_BV, 100)
    assert everything.shape == (2, 4)


@pytest.mark.parity
def test_transformers_processors_keep_the_same_tokens_with_the_same_probabilities():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(7)
    shape = (512, 50)
    logits_BV = rng.normal(scale=2.0, size=shape).astype(np.float32)
    seen_BT = rng.integers(0, shape[1], size=(shape[0], 20))
    seen_BV = np.zeros(shape, bool)
    np.put_along_axis(seen_BV, seen_BT, True, axis=1)
    request = Sampling(repetition_penalty=1.3, temperature=0.7, top_k=20, top_p=0.95, min_p=0.02)
    theirs = torch.tensor(logits_BV)
    for processor in (  # in the order of their GenerationMixin
        transformers.RepetitionPenaltyLogitsProcessor(request.repetition_penalty),
        transformers.TemperatureLogitsWarper(request.temperature),
        transformers.TopKLogitsWarper(request.top_k),
        transformers.TopPLogitsWarper(request.top_p),
        transformers.MinPLogitsWarper(request.min_p),
    ):
        before = np.isfinite(theirs.numpy()).sum()
        changed, theirs = theirs, processor(torch.tensor(seen_BT), theirs)
        assert not torch.equal(changed, theirs)
        assert np.isfinite(theirs.numpy()).sum() <= before
    ours_BV = filtered(logits_BV, request, seen_BV)
    np.testing.assert_array_equal(np.isfinite(ours_BV), np.isfinite(theirs.numpy()))
    np.testing.assert_allclose(ours_BV, theirs.numpy(), rtol=1e-6)


@pytest.mark.parity
def test_of_equals_at_the_edge_of_top_p_transformers_keeps_some_and_we_all():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    logits_BV = np.log(np.array([[0.4, 0.2, 0.2, 0.2]], np.float32))
    theirs = transformers.TopPLogitsWarper(0.5)(None, torch.tensor(logits_BV)).numpy()
    ours = filtered(logits_BV, Sampling(top_p=0.5))
    assert np.isfinite(theirs).sum() == 2
    assert np.isfinite(ours).sum() == 4
    # Top-k keeps all equals in both.
    theirs = transformers.TopKLogitsWarper(2)(None, torch.tensor(logits_BV)).numpy()
    ours = filtered(logits_BV, Sampling(top_k=2))
    assert np.isfinite(theirs).sum() == np.isfinite(ours).sum() == 4


def filtered(
    logits_BV: np.ndarray, request: Sampling, seen_BV: np.ndarray | None = None
) -> np.ndarray:
    """The logits that every row is drawn from."""
    settings, seen = (
        rows([request] * len(logits_BV)),
        None if seen_BV is None else jnp.array(seen_BV),
    )
    judged_BV = sampling.penalise(jnp.array(logits_BV), settings, seen)
    return np.asarray(sampling.heat_and_filter(judged_BV, settings))


@jax.jit
@jax.vmap
def first_noise(seed: jax.Array) -> jax.Array:
    return jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), 0), (V,))


REQUESTS = [
    Sampling(seed=11),
    Sampling(seed=11, temperature=0.0),
    Sampling(seed=3, top_k=3, temperature=2.0),
    Sampling(seed=4, top_p=0.7),
    Sampling(seed=5, min_p=0.3, top_k=20),
    Sampling(seed=6, repetition_penalty=1.5),
]


@pytest.mark.parametrize("row", range(len(REQUESTS)))
def test_a_request_draws_the_same_alone_and_amid_others(row: int):
    logits_BV = np.random.default_rng(1).normal(size=(len(REQUESTS), V)).astype(np.float32)
    seen_BV = seen_tokens([[0, 1]] * len(REQUESTS), REQUESTS, V)
    assert seen_BV is not None
    settings = rows(REQUESTS)
    for first in range(10):
        index_B = np.array([first, first + 1, 7, first + 2, 0, 3], np.int32)
        amid = draw(logits_BV, settings, index_B, seen_BV)
        own = slice(row, row + 1)
        seen_1V = seen_tokens([[0, 1]], REQUESTS[own], V)  # None where it has no penalty
        alone = draw(logits_BV[own], rows(REQUESTS[own]), index_B[own], seen_1V)
        for ours, theirs in zip(amid, alone, strict=True):
            np.testing.assert_array_equal(np.asarray(ours)[own], np.asarray(theirs))


def test_the_seed_and_the_index_of_the_token_decide_and_nothing_else():
    first = draw_many([0.0] * V, Sampling())
    np.testing.assert_array_equal(first, draw_many([0.0] * V, Sampling()))
    later = draw_many([0.0] * V, Sampling(), index=1)
    chance, four_errors = 1 / V, 4 * math.sqrt((1 / V) * (1 - 1 / V) / DRAWS)
    agreements = (first == later, first[1:] == later[:-1], first[1:] == first[:-1])
    for agreement in agreements:  # of indices, of seed + index, of seeds
        assert abs(np.mean(agreement) - chance) < four_errors


def test_temperature_zero_takes_the_likeliest_and_of_equals_the_first():
    logits = [1.0, 3.0, -2.0, 3.0, 3.0, 0.0]
    assert support(draw_many(logits, Sampling(temperature=0.0))) == [1]
    assert support(draw_many(logits, Sampling(temperature=0.0, top_k=3, top_p=0.2))) == [1]


@pytest.mark.parametrize("temperature", [1e-45, 2e-38, 1e-30, 1e-6])
def test_the_coldest_draws_are_the_likeliest_token(temperature: float):
    logits = [14.9, 15.0, -15.0, 0.0, 12.0, 14.0]
    for request in (
        Sampling(temperature=temperature),
        Sampling(temperature=temperature, top_p=0.9),
    ):
        assert support(draw_many(logits, request)) == [1]
    for penalty, likeliest_token in ((0.01, 0), (100.0, 1)):
        request = Sampling(temperature=temperature, top_p=0.9, repetition_penalty=penalty)
        seen = {0, 2}  # 14.9 and -15
        assert support(draw_many(logits, request, seen=seen)) == [likeliest_token]
    greedy = Sampling(temperature=temperature, min_p=0.5, repetition_penalty=100.0)
    assert support(draw_many([-1.0, -5.0, -9.0, -5.0, -6.0, -7.0], greedy, seen=range(V))) == [0]


def test_the_log_probability_is_that_of_the_unfiltered_model():
    logits = [1.3, 0.1, -0.7, 2.0, 0.1, -2.0]
    logits_BV = np.broadcast_to(np.array(logits, np.float32), (DRAWS, V))
    settings = many(Sampling(temperature=0.3, top_k=2))
    tokens, logprobs = map(np.asarray, draw(logits_BV, settings, np.zeros(DRAWS, np.int32)))
    assert support(tokens) == [0, 3]
    np.testing.assert_allclose(logprobs, np.log(expected(logits, Sampling()))[tokens], rtol=1e-5)


def test_half_precision_logits_are_drawn_from_in_single():
    logits_BV = jnp.array([[1.0, 2.0, 3.0]], jnp.bfloat16)
    token, logprob = draw(logits_BV, rows([Sampling()]), jnp.array([0]))
    assert (token.dtype, logprob.dtype) == (jnp.int32, jnp.float32)


def test_rows_stack_every_field_in_order():
    stacked = rows([Sampling(seed=2**32 - 1, top_k=3), Sampling(temperature=0.5, min_p=0.25)])
    names = [field.name for field in dataclasses.fields(Sampling)]
    assert [name.removesuffix("_B") for name in Rows._fields] == names
    assert stacked.seed_B.tolist() == [2**32 - 1, 0]
    assert stacked.top_k_B.tolist() == [3, 0]
    assert stacked.temperature_B.tolist() == [1.0, 0.5]
    assert stacked.min_p_B.tolist() == [0.0, 0.25]
    assert stacked.top_p_B.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "name, value",
    [
        ("repetition_penalty", 0.0),
        ("repetition_penalty", 101.0),
        ("temperature", -0.1),
        ("top_k", -1),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("seed", 2**32),
    ],
)
def test_a_value_outside_its_range_is_named(name: str, value: float):
    field = fields_of(Sampling)[name]
    assert field.problem(name, field.default) is None
    assert f"{name}={value}" in str(field.problem(name, value))
