"""The pipeline: a batch is a function of the seed and of its number, also after a restart."""

import gc
import itertools
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.data.parts import Kept
from nanogpt_jax.data.pipeline import Batches, digest_batch, train_batches
from nanogpt_jax.data.store import Store, Tokens
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch
from tests.fakes import NUMBERS

MakeRunning = Callable[[int], Tokens]
MakeDocuments = Callable[[Sequence[Sequence[int]]], Tokens]
MakeBatches = Callable[..., Batches]
WINDOWS = ("random", "sequential", "shuffled")
windows = pytest.mark.parametrize("window", WINDOWS)


@pytest.fixture(scope="module")
def make_batches(running_tokens: MakeRunning) -> MakeBatches:
    """Batches over 57 tokens, windows of 8: seven that tile, so that a batch of 3 wraps."""
    store = Store(running_tokens(57), running_tokens(9), running=True)

    def make(**changes: Any) -> Batches:
        return open_batches(store, **changes)

    return make


def open_batches(store: Store, **changes: Any) -> Batches:
    fields: dict[str, Any] = dict(form="stream", window="random", length=8, batch_size=3, seed=0)
    fields |= {"prefetch": 0, "val_fraction": 0.1, **changes}
    return train_batches([Kept(1.0, store)], NUMBERS, **fields)


def starts(batch: Batch) -> list[int]:
    """Token i of the running text is i, so its first input says where a row starts."""
    return batch.inputs_BT[:, 0].tolist()


def first_starts(batches: Batches, count: int) -> list[int]:
    return [start for batch in itertools.islice(batches, count) for start in starts(batch)]


@windows
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_restored_position_goes_on_as_if_never_interrupted(
    make_batches: MakeBatches, window: str, prefetch: int
):
    with make_batches(window=window, prefetch=prefetch) as batches:
        next(batches)
        next(batches)
        position = json.loads(json.dumps(batches.state()))  # as a checkpoint keeps it
        uninterrupted = first_starts(batches, 6)
    with make_batches(window=window, prefetch=2 - prefetch) as resumed:
        assert first_starts(resumed, 2) != uninterrupted[:6]
        resumed.restore(position)
        assert first_starts(resumed, 6) == uninterrupted
        resumed.restore(position)  # back again, past what was made ahead
        assert first_starts(resumed, 6) == uninterrupted


@given(given_rows=st.integers(0, 10**9), window=st.sampled_from(WINDOWS))
def test_any_position_can_be_restored_at_once(
    make_batches: MakeBatches, given_rows: int, window: str
):
    batches = make_batches(window=window)
    batches.restore({"given": given_rows})
    assert batches.state() == {"given": given_rows}
    found = starts(next(batches))
    assert batches.state() == {"given": given_rows + 3}
    if window == "sequential":
        assert found == [8 * ((given_rows + row) % 7) for row in range(3)]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_state_after_n_batches_yields_batch_n(make_batches: MakeBatches, prefetch: int):
    with make_batches(prefetch=0) as batches:
        expected = [starts(batch) for batch in itertools.islice(batches, 5)]
    with make_batches(prefetch=prefetch) as batches:
        for number in range(5):
            assert batches.state() == {"given": 3 * number}
            assert starts(next(batches)) == expected[number]


def test_sequential_windows_tile_the_text_and_begin_again(make_batches: MakeBatches):
    tiling = [0, 8, 16, 24, 32, 40, 48]
    assert first_starts(make_batches(window="sequential"), 7) == tiling * 3


def test_shuffled_windows_come_once_an_epoch_in_an_order_of_its_own(make_batches: MakeBatches):
    drawn = first_starts(make_batches(window="shuffled"), 14)
    epochs = [tuple(drawn[first : first + 7]) for first in range(0, 42, 7)]
    assert all(sorted(epoch) == [0, 8, 16, 24, 32, 40, 48] for epoch in epochs)
    assert len(set(epochs)) == 6
    assert tuple(sorted(epochs[0])) not in epochs


@windows
@pytest.mark.parametrize("batch_size", [1, 2, 7, 10])
def test_batches_of_any_size_take_up_where_the_last_ended(
    make_batches: MakeBatches, window: str, batch_size: int
):
    """One row a batch once counted more batches than fit into an integer."""
    drawn = first_starts(make_batches(window=window, batch_size=batch_size), 70 // batch_size)
    assert len(drawn) == 70
    if window != "random":
        assert drawn == first_starts(make_batches(window=window, batch_size=14), 5)


def test_random_windows_start_anywhere_alike(make_batches: MakeBatches):
    batches = make_batches(batch_size=490)
    counts = np.bincount(first_starts(batches, 10), minlength=49)
    assert len(counts) == 49  # the last start is the last that has a target for every input
    chi_square = np.sum((counts - 100) ** 2 / 100)
    assert chi_square < 48 + 4 * np.sqrt(2 * 48)
    assert starts(next(batches)) != starts(next(batches))


@pytest.mark.parametrize("window", ["random", "shuffled"])
def test_seeds_differ_and_a_seed_repeats_itself(make_batches: MakeBatches, window: str):
    orders = [tuple(first_starts(make_batches(window=window, seed=seed), 4)) for seed in range(5)]
    assert len(set(orders)) == 5
    assert tuple(first_starts(make_batches(window=window, seed=3), 4)) == orders[3]


@windows
def test_documents_are_chosen_in_the_order_of_the_window(
    document_tokens: MakeDocuments, window: str
):
    tokens = document_tokens([[i] for i in range(6)])
    store = Store(tokens, tokens, running=False)
    batches = open_batches(store, form="documents", window=window, length=4, batch_size=6)
    first, second = (next(batches).targets_BT[:, 0].tolist() for _ in range(2))
    assert (first == second) == (window == "sequential")
    assert (sorted(first) == list(range(6))) == (window != "random")


def test_a_stream_of_documents_numbers_them_and_running_text_does_not(
    document_tokens: MakeDocuments, make_batches: MakeBatches
):
    tokens = document_tokens([[1, 2], [3], [4, 5, 6]])
    store = Store(tokens, tokens, running=False)
    stream = open_batches(store, window="sequential", length=5, batch_size=1)
    assert next(stream).segments_BT.tolist() == [[1, 1, 1, 2, 2]]
    assert next(make_batches()).segments_BT is None


@pytest.mark.parametrize("length, enough", [(8, True), (9, False)])
def test_fewer_tokens_than_a_window_and_its_last_target_are_refused(
    running_tokens: MakeRunning, length: int, enough: bool
):
    store = Store(running_tokens(9), running_tokens(9), running=True)
    if enough:
        assert starts(next(open_batches(store, length=length))) == [0, 0, 0]
        return
    with pytest.raises(DataError, match=r"9 tokens in 1 documents, at least 10 tokens .*seq_len=9"):
        open_batches(store, length=length)


def test_no_document_to_train_on_is_refused(document_tokens: MakeDocuments):
    store = Store(document_tokens([]), document_tokens([[1]]), running=False)
    with pytest.raises(DataError, match="at least 1 document "):
        open_batches(store, form="documents")


def prefetchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


def test_closing_or_dropping_batches_leaves_no_thread(make_batches: MakeBatches):
    gc.collect()
    assert prefetchers() == []
    with make_batches(prefetch=2) as batches:
        next(batches)
        (thread,) = prefetchers()
    thread.join(timeout=10)
    assert not thread.is_alive()
    dropped = make_batches(prefetch=2)
    next(dropped)
    (thread,) = prefetchers()
    del dropped
    gc.collect()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_inline_batches_have_no_thread(make_batches: MakeBatches):
    with make_batches(prefetch=0) as batches:
        next(batches)
        assert prefetchers() == []


def test_a_digest_of_a_batch_is_of_every_array_its_name_type_and_shape():
    ints, floats = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones((2, 3), np.float32)
    batch = Batch(ints, ints + 1, floats)
    others = [
        batch._replace(inputs_BT=ints[::-1]),
        batch._replace(inputs_BT=ints.reshape(3, 2)),
        batch._replace(inputs_BT=ints.astype(np.int64)),
        batch._replace(inputs_BT=batch.targets_BT, targets_BT=batch.inputs_BT),
        batch._replace(weights_BT=floats * 2),
        batch._replace(segments_BT=ints),
    ]
    assert len({digest_batch(one) for one in [batch, *others]}) == 1 + len(others)
    same = batch._replace(inputs_BT=np.asfortranarray(ints), targets_BT=(ints + 1).astype(">i4"))
    assert digest_batch(same) == digest_batch(batch), "however it lies in memory"


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_digest_of_a_batch_comes_with_it_and_not_before(
    make_batches: MakeBatches, prefetch: int
):
    with make_batches(prefetch=prefetch) as batches:
        digests = []
        for batch in itertools.islice(batches, 3):
            assert batches.sha256 == digest_batch(batch)
            digests.append(batches.sha256)
        assert len(set(digests)) == 3
