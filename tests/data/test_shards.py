"""Shards: written whole, sealed, found damaged, and read like one array."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanogpt_jax.data.store import shards
from nanogpt_jax.data.store.shards import Encoded, Index, Joined, Seal, Shard

U2 = np.dtype("<u2")


def encoded(*lengths: int, first: int = 0) -> Encoded:
    """Pieces of so many tokens, of two characters and three bytes each; every other opens."""
    rows = [(n, 2 * n, 3 * n, number % 2 == 0) for number, n in enumerate(lengths)]
    ids = np.arange(first, first + sum(lengths), dtype=U2)
    return Encoded(ids, np.array(rows, shards.PIECE))


def write(folder: Path, chunks: Sequence[Encoded], first: int = 0) -> list[Shard]:
    folder.mkdir(exist_ok=True)
    return list(shards.write_shards(folder, chunks, first))


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Shard]:
    """Three shards in an index, of the ids 0 to 24."""
    monkeypatch.setattr(shards, "SHARD_TOKENS", 10)
    written = write(tmp_path, [encoded(9), encoded(2, 3, 4, first=9), encoded(7, first=18)])
    shards.save_index(tmp_path, Index(written))
    assert len(written) == 3
    return written


def test_a_shard_ends_before_what_would_not_fit_and_counts_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shards, "SHARD_TOKENS", 10)
    chunks = [encoded(2, 3, 4), encoded(1), encoded(1), encoded(12), encoded(5), encoded(0)]
    written = write(tmp_path, chunks, first=7)
    assert [shard.tokens for shard in written] == [10, 1, 12, 5]
    assert [shard.pieces for shard in written] == [4, 1, 1, 2]
    assert [shard.documents for shard in written] == [3, 1, 1, 2]
    assert [shard.characters for shard in written] == [20, 2, 24, 10]
    assert written[0].files["00007.ids"].bytes == 20
    assert sorted(path.name for path in tmp_path.iterdir())[:2] == ["00007.ids", "00007.pieces"]
    (pieces, *_) = shards.map_pieces(tmp_path, write(tmp_path, chunks))
    assert pieces["bytes"].tolist() == [6, 9, 12, 3]


def test_nothing_encoded_is_no_shard(tmp_path: Path):
    assert write(tmp_path, []) == []
    ids = shards.map_ids(tmp_path, [], U2)
    assert (len(ids), ids.dtype) == (0, U2)


def test_a_finished_shard_stands_whatever_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shards, "SHARD_TOKENS", 10)

    def chunks() -> Iterator[Encoded]:
        yield encoded(10)
        yield encoded(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(shards.write_shards(tmp_path, chunks(), 0))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"00000.ids", "00000.pieces", "00001.ids.unfinished", "00001.pieces.unfinished"}


def test_an_index_is_read_as_it_was_saved(tmp_path: Path, three: list[Shard]):
    index = Index(three, {"starts.npy": Seal(3, "abc")})
    shards.save_index(tmp_path, index)
    assert shards.read_index(tmp_path) == index
    assert index.files.keys() >= {"00002.ids", "00000.pieces", "starts.npy"}
    content = json.loads((tmp_path / "index.json").read_text())
    assert content["shards"][1]["files"]["00001.ids"][0] == 18


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"shards": [{}], "columns": {}}', "\xff"])
def test_an_index_that_cannot_be_read_is_empty(tmp_path: Path, content: str):
    (tmp_path / "index.json").write_bytes(content.encode("latin-1"))
    assert shards.read_index(tmp_path) == Index()
    assert shards.read_index(tmp_path / "absent") == Index()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize(
    "harm, words",
    [(flip, "does not hold"), (append, "has 19 bytes, 18 were"), (os.unlink, "is missing")],
)
def test_a_damaged_file_is_named_and_what_was_finished_before_it_is_kept(
    tmp_path: Path, three: list[Shard], harm: Any, words: str
):
    files = Index(three).files
    assert shards.find_damage(tmp_path, files, content=True) is None
    harm(tmp_path / "00001.ids")
    found = shards.find_damage(tmp_path, files, content=True)
    assert found and "00001.ids" in found and words in found
    assert (shards.find_damage(tmp_path, files, content=False) is None) == (harm is flip)
    assert shards.keep_intact(tmp_path) == three[:1] == shards.read_index(tmp_path).shards
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"index.json", "00000.ids", "00000.pieces"}


def test_whoever_reads_a_shard_goes_on_reading_it_while_it_is_made_again(
    tmp_path: Path, three: list[Shard]
):
    ids = shards.map_ids(tmp_path, three, U2)
    (tmp_path / "00000.pieces").unlink()
    assert shards.keep_intact(tmp_path) == []
    write(tmp_path, [encoded(1)])
    np.testing.assert_array_equal(ids, np.arange(25))


def test_one_shard_is_a_memory_map_and_several_read_like_one_array(
    tmp_path: Path, three: list[Shard]
):
    ids = shards.map_ids(tmp_path, three, U2)
    assert isinstance(ids, Joined) and ids.dtype == U2 and ids.tolist() == list(range(25))
    one = shards.map_ids(tmp_path, three[:1], U2)
    assert isinstance(one, np.memmap) and one.tolist() == list(range(9))


def test_a_shard_without_tokens_is_passed_over(tmp_path: Path):
    written = write(tmp_path, [encoded(0)])
    assert (written[0].documents, len(shards.map_ids(tmp_path, written, U2))) == (1, 0)


ARRAYS = [np.arange(0, 5, dtype=U2), np.arange(5, 6, dtype=U2), np.arange(6, 14, dtype=U2)]
WHOLE = np.concatenate(ARRAYS)
places = st.integers(-len(WHOLE), len(WHOLE) - 1)
edges = st.none() | st.integers(-20, 20)


@given(st.lists(st.lists(places, min_size=2, max_size=2), max_size=9))
def test_joined_arrays_give_what_one_would_for_places_of_any_shape(rows: list[list[int]]):
    joined = Joined(ARRAYS)
    wanted = np.array(rows, np.int64).reshape(-1, 2)
    for found in (joined[wanted], joined.take(wanted)):
        assert found.dtype == U2 and found.flags.writeable
        np.testing.assert_array_equal(found, WHOLE[wanted])


@given(places)
def test_joined_arrays_give_a_number_for_a_place(place: int):
    found = Joined(ARRAYS)[place]
    assert np.ndim(found) == 0 and found == WHOLE[place] and type(found) is type(WHOLE[place])


@example(start=None, stop=None, step=None)
@given(start=edges, stop=edges, step=st.sampled_from([None, 1, 2, 3, -1, -2]))
def test_joined_arrays_are_sliced_as_one(start: int | None, stop: int | None, step: int | None):
    wanted = slice(start, stop, step)
    found = Joined(ARRAYS)[wanted]
    assert found.dtype == U2
    np.testing.assert_array_equal(found, WHOLE[wanted])


@given(st.lists(st.integers(-50, 50)))
def test_joined_arrays_are_clipped_like_one(wanted: list[int]):
    expected = WHOLE.take(np.array(wanted, np.int64), mode="clip")
    np.testing.assert_array_equal(Joined(ARRAYS).take(wanted, mode="clip"), expected)


@pytest.mark.parametrize("place", [len(WHOLE), -len(WHOLE) - 1])
def test_a_place_outside_joined_arrays_is_an_error(place: int):
    with pytest.raises(IndexError):
        Joined(ARRAYS)[np.array([0, place])]
    with pytest.raises(IndexError):
        Joined(ARRAYS).take(np.array([place]))


def test_joined_arrays_are_iterated_and_made_one():
    joined = Joined(ARRAYS)
    assert (len(joined), [int(each) for each in joined]) == (14, list(range(14)))
    assert np.asarray(joined, np.int64).dtype == np.int64
