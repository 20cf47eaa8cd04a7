"""What a position of every registered model may feel, with a cache and with documents."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.contracts.cases import CASES, B, Case, T, V, logits_of, over, quick_jit


@over(CASES)
def test_no_position_feels_a_later_token_by_gradient(case: Case):
    tokens_T = np.random.default_rng(2).permutation(V)[:T]
    # One document, so that this and the test of documents share a program.
    felt_TS = np.asarray(case.influence(case.params, tokens_T, np.zeros((1, T), "int32")))
    assert np.isfinite(felt_TS).all()
    later = np.triu(np.ones((T, T), bool), 1)
    assert (felt_TS[later] == 0).all()
    earlier = np.tril(np.ones((T, T), bool), -1 if case.config.shape(V).n_layer else 0)
    if case.config.shape(V).n_layer:
        assert (felt_TS[earlier] > 0).all()
    assert (np.diag(felt_TS) > 0).all()


@over(CASES)
def test_a_prefix_gives_the_same_logits_whatever_follows(case: Case):
    before = np.asarray(case.logits(case.params, case.tokens_BT))
    for length in range(1, T):
        changed = case.tokens_BT.copy()
        changed[:, length:] = (changed[:, length:] + 1) % V
        after = np.asarray(case.logits(case.params, changed))
        assert np.array_equal(before[:, :length], after[:, :length])
        assert not np.array_equal(before[:, length:], after[:, length:])


@over(CASES)
def test_a_cache_gives_the_full_pass_at_every_position_in_any_split(case: Case):
    full = np.asarray(case.logits(case.params, case.tokens_BT))
    assert case.model.empty_cache is not None
    for split in splits(T):
        cache, start = case.model.empty_cache(B, T), 0
        for piece in split:
            tokens = case.tokens_BT[:, start : start + piece]
            logits, cache = case.step(case.params, tokens, cache)
            np.testing.assert_allclose(logits, full[:, start : start + piece], atol=2e-5)
            start += piece
        assert cache.length_B.tolist() == [T] * B


def splits(length: int) -> list[tuple[int, ...]]:
    """All ways to cut `length` into pieces of 1 and 3: every position in two programs."""
    if length <= 0:
        return [()] if length == 0 else []
    return [(piece, *rest) for piece in (1, 3) for rest in splits(length - piece)]


@over(CASES)
def test_rows_of_one_cache_may_stand_at_different_positions(case: Case):
    full = np.asarray(case.logits(case.params, case.tokens_BT))
    assert case.model.empty_cache is not None
    _, cache = case.step(case.params, case.tokens_BT[:, :3], case.model.empty_cache(B, T))
    lengths = np.array([1, 3], np.int32)  # the first row forgets two tokens of its padding
    cache = cache._replace(length_B=jnp.asarray(lengths))
    for _ in range(4):
        tokens = np.take_along_axis(case.tokens_BT, lengths[:, None], 1)
        logits, cache = case.step(case.params, tokens, cache)
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(logits[row, 0], full[row, length], atol=2e-5)
        lengths = lengths + 1


@over(CASES)
def test_a_cache_knows_no_documents_and_nothing_outgrows_the_context(case: Case):
    assert case.model.empty_cache is not None
    cache = case.model.empty_cache(B, T)
    with pytest.raises(ValueError, match="one document a row"):
        case.model.apply(case.params, case.tokens_BT, cache=cache, segments_BT=case.tokens_BT)
    with pytest.raises(ValueError, match=f"9 positions.*max_seq_len={T}"):
        case.model.apply(case.params, np.zeros((1, T + 1), "int32"))
    with pytest.raises(ValueError, match=f"9 positions.*max_seq_len={T}"):
        case.model.empty_cache(1, T + 1)


@over(CASES)
def test_nothing_crosses_from_one_document_of_a_row_into_another(case: Case):
    segments_T = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    tokens_T = np.random.default_rng(3).permutation(V)[:T]
    felt_TS = np.asarray(case.influence(case.params, tokens_T, segments_T[None].astype("int32")))
    allowed_TS = (segments_T[:, None] == segments_T) & np.tri(T, dtype=bool)
    assert (felt_TS[~allowed_TS] == 0).all()
    if case.config.shape(V).n_layer:
        assert (felt_TS[allowed_TS] > 0).all()


@over(CASES)
def test_a_document_reads_the_same_wherever_it_stands_in_a_row(case: Case):
    segments_T = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    row_T = np.asarray(case.tokens_BT[0])
    program = quick_jit(functools.partial(logits_of, case.model))
    one = program(case.params, row_T[None], segments_BT=np.zeros((1, T), "int32"))[0]
    whole = case.logits(case.params, case.tokens_BT)[0]
    np.testing.assert_allclose(one, whole, atol=1e-5)
    packed = program(case.params, row_T[None], segments_BT=segments_T[None].astype("int32"))[0]
    for segment in (0, 1, 2):
        inside = segments_T == segment
        alone = np.zeros_like(case.tokens_BT)
        alone[0, : inside.sum()] = row_T[inside]
        expected = case.logits(case.params, alone)[0, : inside.sum()]
        np.testing.assert_allclose(packed[inside], expected, atol=1e-5)
    if case.config.shape(V).n_layer:
        assert not np.allclose(packed[3:], whole[3:], atol=1e-3)
