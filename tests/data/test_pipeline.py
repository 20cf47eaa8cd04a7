"""The pipeline: a batch is a function of the seed and its number, whatever the way to it."""

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

from nanogpt_jax.data.pipeline import Batches, HeldOut, train_batches
from nanogpt_jax.data.store import Store, Tokens
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch

MakeRunning = Callable[[int], Tokens]
MakeDocuments = Callable[[Sequence[Sequence[int]]], Tokens]
MakeBatches = Callable[..., Batches]
BOS = 99
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
    return train_batches(store, bos_id=BOS, **{"prefetch": 0, **fields, **changes})


def starts(batch: Batch) -> list[int]:
    """Token i of the running text is i, so its first input says where a row starts."""
    return batch.inputs_BT[:, 0].tolist()


def first_starts(batches: Batches, count: int) -> list[int]:
    return [start for batch in itertools.islice(batches, count) for start in starts(batch)]


@windows
@pytest.mark.parametrize("prefetch", [0, 2])
def test_iteration_and_random_access_give_the_same_batches(
    make_batches: MakeBatches, window: str, prefetch: int
):
    with make_batches(window=window, prefetch=prefetch) as batches:
        iterated = [starts(batch) for batch in itertools.islice(batches, 12)]
    looked_up = make_batches(window=window)
    numbers = [11, 3, *range(12)]
    assert [starts(looked_up[number]) for number in numbers] == [iterated[n] for n in numbers]


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


@given(number=st.integers(0, 10**9), window=st.sampled_from(WINDOWS))
def test_any_position_can_be_restored_at_once(make_batches: MakeBatches, number: int, window: str):
    batches = make_batches(window=window)
    batches.restore({"next_index": number})
    assert batches.state() == {"next_index": number}
    assert starts(next(batches)) == starts(make_batches(window=window)[number])


def test_the_state_after_n_batches_yields_batch_n(make_batches: MakeBatches):
    with make_batches(prefetch=2) as batches:
        for number in range(5):
            expected = starts(batches[number])
            assert batches.state() == {"next_index": number}
            assert starts(next(batches)) == expected


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
    assert starts(batches[0]) != starts(batches[1])


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


def held_out(val: Tokens, *, running: bool, **changes: Any) -> HeldOut:
    fields: dict[str, Any] = dict(documents=not running, length=8, batch_size=4, rows=100)
    return HeldOut(Store(val, val, running), bos_id=BOS, **(fields | changes))


def test_held_out_windows_tile_the_text_and_the_last_batch_is_filled_up(
    running_tokens: MakeRunning,
):
    held = held_out(running_tokens(57), running=True)
    assert (held.rows, len(held.batches), held.whole) == (7, 2, False)
    assert {batch.inputs_BT.shape for batch in held.batches} == {(4, 8)}
    first, second = held.batches
    assert starts(first) + starts(second)[:3] == [0, 8, 16, 24, 32, 40, 48]
    assert second.weights_BT.sum(axis=1).tolist() == [8, 8, 8, 0]


def test_held_out_rows_are_the_same_every_time_and_as_many_as_asked(
    running_tokens: MakeRunning,
):
    first, again = (held_out(running_tokens(57), running=True, rows=5) for _ in range(2))
    assert first.batches[0].inputs_BT is not again.batches[0].inputs_BT
    for one, other in zip(first.batches, again.batches, strict=True):
        for ours, theirs in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert first.rows == 5
    assert [batch.weights_BT.any(axis=1).sum() for batch in first.batches] == [4, 1]


@pytest.mark.parametrize("tokens, window", [(2, 1), (23, 22), (128, 127), (129, 128), (300, 128)])
def test_a_short_held_out_part_shortens_its_window(
    running_tokens: MakeRunning, tokens: int, window: int
):
    held = held_out(running_tokens(tokens), running=True, length=128)
    assert held.length == window
    assert held.batches[0].inputs_BT.shape == (4, window)
    assert held.rows == max((tokens - 1) // 128, 1)


@pytest.mark.parametrize("tokens", [0, 1])
def test_fewer_than_two_held_out_tokens_are_refused(running_tokens: MakeRunning, tokens: int):
    with pytest.raises(DataError, match=rf"has {tokens} tokens, at least 2 .*val_fraction"):
        held_out(running_tokens(tokens), running=True)


def test_what_is_known_of_held_out_documents_stays_with_their_rows(
    document_tokens: MakeDocuments,
):
    documents = [[i] * (i + 1) for i in range(6)]
    held = held_out(document_tokens(documents), running=False, rows=5)
    assert held.rows == 5 and held.whole
    assert held.nats.tolist() == [1000, 1001, 1002, 1003, 1004]
    assert held.characters.tolist() == [10, 20, 30, 40, 50]
    rows = np.concatenate([batch.targets_BT for batch in held.batches])
    weights = np.concatenate([batch.weights_BT for batch in held.batches])
    assert [row[0] for row in rows[:5]] == [0, 1, 2, 3, 4]
    assert weights.sum(axis=1).tolist() == [2, 3, 4, 5, 6, 0, 0, 0]


def test_documents_are_whole_when_each_measured_one_fits_with_its_end(
    document_tokens: MakeDocuments,
):
    seven, eight = [1] * 7, [1] * 8
    assert held_out(document_tokens([seven, seven]), running=False).whole
    assert not held_out(document_tokens([seven, eight]), running=False).whole
    assert held_out(document_tokens([seven, eight]), running=False, rows=1).whole
    assert not held_out(document_tokens([seven]), running=False, documents=False, length=4).whole


def test_held_out_windows_of_documents_keep_their_segments_when_filled_up(
    document_tokens: MakeDocuments,
):
    tokens = document_tokens([[1, 2], [3, 4]])
    held = held_out(tokens, running=False, documents=False, length=5, batch_size=2)
    assert held.batches[0].segments_BT.tolist() == [[1, 1, 1, 2, 2], [0] * 5]
    assert np.isnan(held.nats).all()


def test_a_sample_starts_at_a_document_or_with_the_first_held_out_words(
    document_tokens: MakeDocuments, running_tokens: MakeRunning
):
    assert held_out(document_tokens([[1, 2]]), running=False).prompt == [BOS]
    assert held_out(running_tokens(300), running=True, length=128).prompt == list(range(16))
    assert held_out(running_tokens(3), running=True).prompt == [0, 1]
