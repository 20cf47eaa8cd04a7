"""Packing: whole documents, each once, side by side; and what a row of them holds."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import models
from nanogpt_jax.data.feeds import Packed, Window
from nanogpt_jax.data.packing import BestFit, Item, lay_out, measure
from nanogpt_jax.data.store import Tokens
from nanogpt_jax.models import gpt

MakeDocuments = Callable[[Sequence[Sequence[int]]], Tokens]
BOS = 99
LENGTHS = st.lists(st.integers(1, 12), max_size=60)


def items(lengths: Sequence[int]) -> Iterator[Item]:
    return (Item(length, number) for number, length in enumerate(lengths))


def rows_of(fit: BestFit, documents: Iterator[Item]) -> list[list[Item]]:
    return list(iter(lambda: fit.row(documents), []))


@given(LENGTHS, st.integers(12, 20), st.integers(1, 10))
def test_every_document_comes_once_and_rows_never_overflow(
    lengths: list[int], capacity: int, window: int
):
    rows = rows_of(BestFit(capacity, window), items(lengths))
    assert sorted(item.payload for row in rows for item in row) == list(range(len(lengths)))
    assert all(sum(item.length for item in row) <= capacity for row in rows)


@given(LENGTHS, st.integers(12, 20))
def test_no_waiting_document_would_still_have_fitted(lengths: list[int], capacity: int):
    fit = BestFit(capacity, window=8)
    documents = items(lengths)
    while row := fit.row(documents):
        room = capacity - sum(item.length for item in row)
        assert all(item.length > room for item in fit.waiting)


@given(LENGTHS, st.integers(0, 20))
def test_what_waits_is_the_whole_state(lengths: list[int], before: int):
    documents = items(lengths)
    fit = BestFit(16, window=6)
    for _ in range(before):
        fit.row(documents)
    rest = list(documents)
    resumed = BestFit(16, window=6)
    resumed.waiting = [Item(*held) for held in map(list, fit.waiting)]
    assert rows_of(resumed, iter(rest)) == rows_of(fit, iter(rest))


def test_the_longest_that_fits_is_taken_first():
    fit = BestFit(10, window=5)
    row = fit.row(items([3, 6, 4, 5, 1]))
    assert [item.length for item in row] == [6, 4]
    assert [item.length for item in fit.waiting] == [1, 3, 5]


def test_a_row_holds_its_documents_to_the_token():
    batch = lay_out(np.arange(6), np.arange(1, 7), [[2, 1], [3]], length=4, bos_id=BOS)
    assert batch.inputs_BT.tolist() == [[0, 1, 2, BOS], [3, 4, 5, BOS]]
    assert batch.targets_BT.tolist() == [[1, 2, 3, BOS], [4, 5, 6, BOS]]
    assert batch.weights_BT.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0]]
    assert batch.segments_BT.tolist() == [[1, 1, 2, 0], [1, 1, 1, 0]]
    assert batch.inputs_BT.dtype == batch.segments_BT.dtype == np.int32


def test_packed_documents_are_whole_and_end_in_bos(document_tokens: MakeDocuments):
    tokens = document_tokens([[1, 2, 3], [], [4], [5, 6]])
    batch = Packed(tokens, length=5, bos_id=BOS, window="sequential", seed=0).take(2)
    # Four documents of 4, 1, 2 and 3 tokens come round again and again; four and one fill a row.
    for inputs, targets, segments in zip(
        batch.inputs_BT, batch.targets_BT, batch.segments_BT, strict=True
    ):
        assert inputs.tolist() == [BOS, 1, 2, 3, BOS]
        assert targets.tolist() == [1, 2, 3, BOS, BOS]
        assert segments.tolist() == [1, 1, 1, 1, 2]


def test_a_document_longer_than_a_row_is_cropped_and_does_not_end(document_tokens: MakeDocuments):
    tokens = document_tokens([[1, 2, 3, 4, 5, 6]])
    batch = Packed(tokens, length=4, bos_id=BOS, window="sequential", seed=0).take(1)
    assert batch.inputs_BT.tolist() == [[BOS, 1, 2, 3]]
    assert batch.targets_BT.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("window", ["random", "sequential", "shuffled"])
def test_a_packed_feed_goes_on_where_it_stood(document_tokens: MakeDocuments, window: Window):
    tokens = document_tokens([[i] * (i % 7) for i in range(50)])

    def feed() -> Packed:
        return Packed(tokens, length=16, bos_id=BOS, window=window, seed=3)

    whole = feed()
    whole.take(5)
    state = whole.state()
    resumed = feed()
    resumed.restore(state)
    for one, other in zip(whole.take(7), resumed.take(7), strict=True):
        np.testing.assert_array_equal(one, other)


def test_shuffled_documents_come_once_an_epoch(document_tokens: MakeDocuments):
    tokens = document_tokens([[i] * (1 + i % 5) for i in range(60)])
    feed = Packed(tokens, length=16, bos_id=BOS, window="shuffled", seed=0)
    drawn = [int(item.payload) for item in _first(feed._documents(), 120)]
    assert sorted(drawn[:60]) == sorted(drawn[60:]) == list(range(60))
    assert drawn[:60] != drawn[60:]


def _first(documents: Iterator[Item], count: int) -> list[Item]:
    return [next(documents) for _ in range(count)]


def test_density_counts_what_is_padded_and_what_is_cropped():
    assert measure([4, 4, 4, 4], capacity=8, window=2) == (1.0, 0.0)
    assert measure([5, 5], capacity=8, window=2) == (10 / 16, 0.0)
    utilisation, cropped = measure([12, 8], capacity=8, window=2)
    assert utilisation == 1 and cropped == pytest.approx(4 / 20)
    assert measure([], capacity=8, window=2) == (0.0, 0.0)


@pytest.mark.parametrize("separate", [pytest.param(True, marks=pytest.mark.slow), False])
def test_no_token_learns_from_another_document_of_its_row(
    document_tokens: MakeDocuments, separate: bool
):
    """The loss of one document has no gradient at the embeddings of the others' tokens."""
    own, others = [1, 2, 3], [[11, 12, 13, 14], [21, 22, 23, 24]]
    tokens = document_tokens([own, *others])
    batch = Packed(tokens, length=14, bos_id=BOS, window="sequential", seed=0).take(1)
    assert sorted(set(batch.segments_BT[0].tolist())) == [1, 2, 3], "the shortest is the last"
    config = gpt.Config(n_layer=2, n_head=2, n_kv_head=1, d_model=16, max_seq_len=14)
    model = models.build("gpt", config, BOS + 1)
    leaves, tree = jax.tree.flatten(jax.eval_shape(model.init, jax.random.key(0)))
    draw = np.random.default_rng(0).normal  # at its start, a block would write nothing
    params = jax.tree.unflatten(tree, [draw(scale=0.3, size=leaf.shape) for leaf in leaves])
    mine_BT = np.isin(batch.inputs_BT, own) & (batch.targets_BT != BOS)
    segments_BT = batch.segments_BT if separate else None

    def loss(params: Any) -> Any:
        hidden_BTD = model.apply(params, batch.inputs_BT, segments_BT=segments_BT).hidden_BTD
        log_p_BTV = jax.nn.log_softmax(model.unembed(params, hidden_BTD))
        picked_BT = jnp.take_along_axis(log_p_BTV, batch.targets_BT[..., None], axis=-1)[..., 0]
        return -jnp.sum(picked_BT * mine_BT)

    gradient_VD = np.abs(np.asarray(jax.grad(loss)(params)["w_embed"]))
    assert gradient_VD[own[:-1]].max(axis=1).min() > 0
    reached = gradient_VD[[token for other in others for token in other]].max()
    # Without segments the documents before it in the row do reach it: the test can fail.
    assert (reached == 0) == separate
