"""Held-out rows: the same every time, and what is known of them stays with them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nanogpt_jax.data.held_out import HeldOut
from nanogpt_jax.data.parts import Kept
from nanogpt_jax.data.store import Store, Tokens
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch
from tests.fakes import BOS, NUMBERS

MakeRunning = Callable[[int], Tokens]
MakeDocuments = Callable[[Sequence[Sequence[int]]], Tokens]


def starts(batch: Batch) -> list[int]:
    """Token i of the running text is i, so its first input says where a row starts."""
    return batch.inputs_BT[:, 0].tolist()


def held_out(val: Tokens, *, running: bool, **changes: Any) -> HeldOut:
    fields: dict[str, Any] = dict(documents=not running, length=8, batch_size=4, rows=100)
    return HeldOut([Kept(1.0, Store(val, val, running))], NUMBERS, **(fields | changes))


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
