"""Examples: what a row of a batch holds, to the token."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.data.examples import Rows, Windows
from nanogpt_jax.data.store import Tokens, open_store
from nanogpt_jax.functional import segment_positions
from tests.opened import open_corpus

MakeRunning = Callable[[int], Tokens]
MakeDocuments = Callable[[Sequence[Sequence[int]]], Tokens]
BOS = 99


def test_a_window_predicts_the_token_after_each_input(running_tokens: MakeRunning):
    windows = Windows(running_tokens(20), length=4, stride=1, bos_id=None)
    batch = windows.build(np.array([0, 7]))
    assert batch.inputs_BT.tolist() == [[0, 1, 2, 3], [7, 8, 9, 10]]
    assert batch.targets_BT.tolist() == [[1, 2, 3, 4], [8, 9, 10, 11]]
    assert batch.weights_BT.tolist() == [[1, 1, 1, 1]] * 2
    assert batch.segments_BT is None
    assert batch.inputs_BT.dtype == batch.targets_BT.dtype == np.int32
    assert batch.weights_BT.dtype == np.float32


@given(length=st.integers(1, 8), stride=st.integers(1, 8), size=st.integers(0, 40))
def test_the_last_window_ends_inside_the_text_and_another_would_not(
    running_tokens: MakeRunning, length: int, stride: int, size: int
):
    count = Windows(running_tokens(size), length, stride, None).count
    assert count == sum(start + length < size for start in range(0, size, stride))


def test_tiling_windows_predict_every_token_but_the_first_once(running_tokens: MakeRunning):
    windows = Windows(running_tokens(21), length=4, stride=4, bos_id=None)
    batch = windows.build(np.arange(windows.count))
    assert batch.targets_BT.ravel().tolist() == list(range(1, 21))


def test_segments_number_the_documents_inside_a_window(document_tokens: MakeDocuments):
    tokens = document_tokens([[1, 2, 3], [], [4], [5, 6]])
    assert tokens.ids.tolist() == [BOS, 1, 2, 3, BOS, BOS, 4, BOS, 5, 6]
    batch = Windows(tokens, length=7, stride=1, bos_id=BOS).build(np.array([0, 2]))
    assert batch.segments_BT.tolist() == [[1, 1, 1, 1, 2, 3, 3], [0, 0, 1, 2, 2, 3, 3]]
    assert batch.segments_BT.dtype == np.int32


def test_positions_restart_at_each_document_and_at_a_window_inside_one(
    document_tokens: MakeDocuments,
):
    tokens = document_tokens([[1, 2, 3], [], [4], [5, 6]])
    batch = Windows(tokens, length=7, stride=1, bos_id=BOS).build(np.array([0, 2]))
    positions_BT = np.asarray(segment_positions(batch.segments_BT))
    assert positions_BT.tolist() == [[0, 1, 2, 3, 0, 0, 1], [0, 1, 0, 0, 1, 0, 1]]


def test_the_end_of_a_document_is_predicted_from_inside_it(document_tokens: MakeDocuments):
    tokens = document_tokens([[1, 2], [3, 4]])
    batch = Windows(tokens, length=5, stride=1, bos_id=BOS).build(np.array([0]))
    last_of_first = 2
    assert batch.targets_BT[0, last_of_first] == BOS
    assert batch.segments_BT[0, last_of_first] == batch.segments_BT[0, 0]


def test_a_document_is_a_row_from_bos_to_bos_padded_with_weight_zero(
    document_tokens: MakeDocuments,
):
    rows = Rows(document_tokens([[1, 2], [3], [4, 5, 6, 7]]), length=6, bos_id=BOS)
    assert rows.count == 3
    batch = rows.build(np.array([2, 0]))
    assert batch.inputs_BT.tolist() == [[BOS, 4, 5, 6, 7, BOS], [BOS, 1, 2, BOS, BOS, BOS]]
    assert batch.targets_BT.tolist() == [[4, 5, 6, 7, BOS, BOS], [1, 2, BOS, BOS, BOS, BOS]]
    assert batch.weights_BT.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
    assert batch.segments_BT is None
    assert batch.inputs_BT.dtype == batch.targets_BT.dtype == np.int32
    assert batch.weights_BT.dtype == np.float32


def test_a_document_that_fills_the_row_keeps_its_end_and_a_longer_one_is_cropped(
    document_tokens: MakeDocuments,
):
    tokens = document_tokens([[1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12]])
    batch = Rows(tokens, length=4, bos_id=BOS).build(np.arange(3))
    assert batch.inputs_BT.tolist() == [[BOS, 1, 2, 3], [BOS, 4, 5, 6], [BOS, 8, 9, 10]]
    assert batch.targets_BT.tolist() == [[1, 2, 3, BOS], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert batch.weights_BT.all()


@given(
    documents=st.lists(st.lists(st.integers(0, 98), max_size=9), min_size=1, max_size=6),
    length=st.integers(1, 8),
)
def test_the_weighted_targets_of_a_row_are_its_document_and_the_end(
    document_tokens: MakeDocuments, documents: list[list[int]], length: int
):
    rows = Rows(document_tokens(documents), length, BOS)
    batch = rows.build(np.arange(rows.count))
    for row, document in enumerate(documents):
        predicted = batch.targets_BT[row][batch.weights_BT[row] == 1]
        assert predicted.tolist() == [*document, BOS][:length]
        assert batch.inputs_BT[row, 0] == BOS


def test_rows_of_a_file_of_names_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path))
    (tmp_path / "names.txt").write_text("emma\nolivia\nava\nmia\n")
    corpus = open_corpus(f"text:{tmp_path}/names.txt", documents=True)
    tokenizer = tokenization.train("char", ["emma olivia"], 0)
    tokens = open_store(corpus, tokenizer, 0.25).train
    batch = Rows(tokens, 8, tokenizer.bos_id).build(np.arange(3))
    texts = [
        tokenizer.decode(targets[weights == 1].tolist())
        for targets, weights in zip(batch.targets_BT, batch.weights_BT, strict=True)
    ]
    assert texts == ["emma", "olivia", "ava"]
    assert batch.weights_BT.sum(axis=1).tolist() == [5, 7, 4]
