"""Streams: the same documents whatever the interruptions, and none of those held out."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nanogpt_jax.data import streams
from nanogpt_jax.data.corpus import Mixture, Stream
from nanogpt_jax.data.feeds import Feed, Mixed
from nanogpt_jax.data.held_out import HeldOut
from nanogpt_jax.data.parts import Kept, Streamed, open_parts, to_learn_from
from nanogpt_jax.data.pipeline import Batches, train_batches
from nanogpt_jax.errors import DataError
from nanogpt_jax.interface import Batch
from tests.fakes import BOS, NUMBERS

FORMS = ("stream", "packed", "documents")
forms = pytest.mark.parametrize("form", FORMS)


def texts(count: int) -> list[str]:
    """Document n holds n, n mod 5 + 1 times."""
    return [" ".join([str(n)] * (n % 5 + 1)) for n in range(count)]


def numbered(count: int) -> Stream:
    """A stream whose position is how many documents were given."""

    def documents(position: Any) -> Iterator[tuple[str, Any]]:
        for number in range(position or 0, count):
            yield texts(count)[number], number + 1

    return Stream("fake", "fake", documents)


def open_batches(
    count: int = 90, *, prefetch: int = 0, form: Any = "stream", **more: Any
) -> Batches:
    (part,) = open_parts(numbered(count), NUMBERS, 0.1, held_out_rows=4, length=8)
    fields: dict[str, Any] = dict(form=form, window="random", length=8, batch_size=4, seed=0)
    return train_batches([part], NUMBERS, val_fraction=0.1, prefetch=prefetch, **fields | more)


def tokens_of(batches: Iterator[Batch]) -> list[int]:
    """Every token that is trained on, in the order of rows."""
    return [
        int(token)
        for batch in batches
        for token in batch.targets_BT[batch.weights_BT > 0]
        if token != BOS
    ]


@forms
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_restored_stream_goes_on_as_if_never_interrupted(form: str, prefetch: int):
    with open_batches(form=form, prefetch=prefetch) as batches:
        for _ in range(7):
            next(batches)
        held = json.loads(json.dumps(batches.state()))
        uninterrupted = list(itertools.islice(batches, 9))  # beyond the end, from the beginning
    with open_batches(form=form, prefetch=2 - prefetch) as resumed:
        resumed.restore(held)
        for one, other in zip(uninterrupted, itertools.islice(resumed, 9), strict=True):
            for ours, theirs in zip(one, other, strict=True):
                np.testing.assert_array_equal(ours, theirs)


@forms
def test_held_out_documents_are_never_trained_on(form: str):
    with open_batches(form=form) as batches:
        seen = set(tokens_of(itertools.islice(batches, 40)))
    held = streams.held_out_tokens(numbered(90), NUMBERS, 0.1, documents=9, tokens=0)
    kept_back = set(held.ids.tolist()) - {BOS}
    assert kept_back == set(range(0, 90, 10))
    assert seen and not seen & kept_back
    if form == "documents":
        assert seen == set(range(90)) - kept_back


def test_windows_of_a_stream_tile_it():
    documents = [text for number, text in enumerate(texts(90)) if number % 10]
    whole = [token for text in documents for token in (BOS, *NUMBERS.encode(text))]
    with open_batches(batch_size=1) as batches:
        first = list(itertools.islice(batches, 20))
    inputs = np.concatenate([batch.inputs_BT.ravel() for batch in first])
    targets = np.concatenate([batch.targets_BT.ravel() for batch in first])
    assert inputs.tolist() == whole[:160]
    assert targets.tolist() == whole[1:161]


def test_a_document_of_a_stream_ends_in_bos_and_a_long_one_is_cropped():
    stream = Stream("", "", lambda _: iter([("1 2", None), ("1 2 3 4 5", None), ("7 8 9", None)]))
    feed = streams.StreamedDocuments(stream, NUMBERS, 4, val_fraction=0.0, pack=False)
    batch = feed.take(3)
    assert batch.inputs_BT.tolist() == [[BOS, 1, 2, BOS], [BOS, 1, 2, 3], [BOS, 7, 8, 9]]
    assert batch.targets_BT.tolist() == [[1, 2, BOS, BOS], [1, 2, 3, 4], [7, 8, 9, BOS]]
    assert batch.weights_BT.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_a_stream_without_a_training_document_is_refused():
    with pytest.raises(DataError, match="no document to train on"):
        next(open_batches(1))


def test_without_a_held_out_share_a_stream_is_not_searched_for_it():
    def documents(position: Any) -> Iterator[tuple[str, Any]]:
        raise AssertionError("the stream was read")

    stream = Stream("fake", "fake", documents)
    with pytest.raises(AssertionError, match="was read"):
        streams.held_out_tokens(stream, NUMBERS, 0.1, documents=1, tokens=0)
    held = streams.held_out_tokens(stream, NUMBERS, 0.0, documents=1, tokens=0)
    assert held.documents == 0 and len(held.ids) == 0


@pytest.mark.parametrize(
    ("val_fraction", "every"), [(0.0, 0), (0.1, 10), (0.5, 2), (0.7, 2), (1.0, 2)]
)
def test_a_stream_never_holds_out_every_document(val_fraction: float, every: int):
    assert streams.held_out_every(val_fraction) == every
    trained = streams.first_texts(numbered(10), val_fraction, 10)
    assert len(trained) == (10 - 10 // every if every else 10)


def test_held_out_rows_of_a_stream_are_its_first_held_out_documents():
    parts = open_parts(numbered(90), NUMBERS, 0.1, held_out_rows=3, length=8)
    held = HeldOut(parts, NUMBERS, documents=True, length=8, batch_size=2, rows=3)
    rows = np.concatenate([batch.targets_BT for batch in held.batches])
    assert rows[:3, 0].tolist() == [0, 10, 20]
    assert held.rows == 3 and held.prompt == [BOS]


def test_a_tokenizer_learns_from_the_beginning_of_a_stream(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nanogpt_jax.data.parts.LEARNED_DOCUMENTS", 3)
    assert list(to_learn_from(numbered(90)).read(0.1).train.texts) == texts(90)[1:4]


class Constant(Feed):
    """Rows whose tokens are all one number, of which so many count."""

    def __init__(self, token: int, counted: int):
        self._token, self._counted, self._given = token, counted, 0

    def take(self, rows: int) -> Batch:
        self._given += rows
        tokens = np.full((rows, 8), self._token, np.int32)
        weights = np.zeros((rows, 8), np.float32)
        weights[:, : self._counted] = 1
        return Batch(tokens, tokens, weights)

    def state(self) -> dict[str, Any]:
        return {"given": self._given}

    def restore(self, state: Any) -> None:
        self._given = state["given"]


def test_parts_of_a_mixture_give_their_shares_of_the_tokens_not_of_the_rows():
    mixed = Mixed([0.7, 0.3], [Constant(1, counted=8), Constant(2, counted=2)])
    batch = mixed.take(400)
    counted = [batch.weights_BT[batch.inputs_BT[:, 0] == part].sum() for part in (1, 2)]
    assert counted[0] / sum(counted) == pytest.approx(0.7, abs=0.005)


def test_a_mixture_goes_on_where_it_stood():
    def feed() -> Mixed:
        return Mixed([2, 1, 1], [Constant(1, 8), Constant(2, 3), Constant(3, 5)])

    whole, resumed = feed(), feed()
    whole.take(7)
    resumed.restore(json.loads(json.dumps(whole.state())))
    one, other = whole.take(20), resumed.take(20)
    assert one.inputs_BT.tolist() == other.inputs_BT.tolist()
    assert whole.state() == resumed.state()


def test_the_largest_share_begins():
    batch = Mixed([0.3, 0.7], [Constant(1, 8), Constant(2, 8)]).take(1)
    assert batch.inputs_BT[0, 0] == 2


def test_a_mixture_of_streams_is_opened_part_by_part():
    mixture = Mixture("", "", ((0.5, numbered(90)), (0.5, numbered(40))))
    parts = open_parts(mixture, NUMBERS, 0.1, held_out_rows=4, length=8)
    assert [type(part) for part in parts] == [Streamed, Streamed]
    assert not any(isinstance(part, Kept) for part in parts)
    held = HeldOut(parts, NUMBERS, documents=True, length=8, batch_size=4, rows=4)
    assert held.rows == 4
    assert held.batches[0].targets_BT[:, 0].tolist() == [0, 10, 0, 10]
