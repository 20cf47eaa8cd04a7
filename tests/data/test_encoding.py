"""Encoding: the same tokens in one process and in several, none of which outlives its work."""

import multiprocessing
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanogpt_jax import tokenization
from nanogpt_jax.data.store import encoding
from nanogpt_jax.data.store.encoding import Encoder
from nanogpt_jax.data.store.pieces import Chunk
from nanogpt_jax.errors import DataError, TokenizerError

LETTERS = "abcdefghij"


def make_encoder(*, running: bool = False, characters: str = LETTERS) -> Encoder:
    return Encoder(tokenization.train("char", [characters], 0), running)


def make_chunks(count: int) -> Iterator[Chunk]:
    """Chunks of growing length, the first piece of each the rest of a document."""
    for number in range(count):
        yield Chunk([LETTERS[: number % 5], "é" * 0, LETTERS[number % 7 :]], [False, True, True])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[Any]]:
    """The processes started since; all of them must have been waited for in the end."""
    processes: list[subprocess.Popen[Any]] = []
    popen = subprocess.Popen

    def note(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", note)
    monkeypatch.setattr(encoding, "INLINE_CHUNKS", 3)
    return processes


def test_documents_open_with_bos_and_their_pieces_are_counted():
    encoder = make_encoder(characters="abé")
    ids, pieces = encoder(Chunk(["ab", "é", "", "a"], [True, False, True, True]))
    bos = encoder.tokenizer.bos_id
    assert ids.tolist() == [bos, 0, 1, 2, bos, bos, 0]
    assert pieces["tokens"].tolist() == [3, 1, 1, 2]
    assert pieces["characters"].tolist() == [2, 1, 0, 1]
    assert pieces["bytes"].tolist() == [2, 2, 0, 1]
    assert pieces["opens"].tolist() == [True, False, True, True]


def test_running_text_has_no_bos():
    ids, pieces = make_encoder(running=True)(Chunk(["ab", "c"], [True, False]))
    assert (ids.tolist(), pieces["tokens"].tolist()) == ([0, 1, 2], [2, 1])


@pytest.mark.parametrize("size, dtype", [(2**16, "<u2"), (2**16 + 1, "<u4")])
def test_two_bytes_are_kept_for_each_token_where_they_suffice(size: int, dtype: str):
    points = "".join(chr(point) for point in range(0x10000, 0x10000 + size - 1))
    encoder = make_encoder(running=True, characters=points)
    assert encoder.tokenizer.vocab_size == size
    ids = encoder(Chunk([points[-1]], [True])).ids
    assert (ids.dtype, ids.tolist()) == (np.dtype(dtype), [size - 2])


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 16])
def test_several_processes_give_the_same_in_the_same_order(
    started: list[subprocess.Popen[Any]], count: int
):
    encoder = make_encoder()
    alone = [encoder(chunk) for chunk in make_chunks(count)]
    together = list(encoding.encode(make_chunks(count), encoder, 2))
    assert len(started) == (2 if count > 3 else 0), "few chunks are encoded here"
    assert len(alone) == len(together) == count
    for mine, theirs in zip(alone, together, strict=True):
        np.testing.assert_array_equal(mine.ids, theirs.ids)
        np.testing.assert_array_equal(mine.pieces, theirs.pieces)
        assert mine.ids.dtype == theirs.ids.dtype
    assert all(process.returncode is not None for process in started)


def test_one_core_starts_no_process(
    started: list[subprocess.Popen[Any]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encoding, "count_cores", lambda: 1)
    assert len(list(encoding.encode(make_chunks(9), make_encoder()))) == 9
    assert started == []


def test_no_more_chunks_are_taken_than_there_are_processes(
    started: list[subprocess.Popen[Any]],
):
    taken = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal taken
        for chunk in make_chunks(20):
            taken += 1
            yield chunk

    for given, _ in enumerate(encoding.encode(chunks(), make_encoder(), 2)):
        assert taken <= given + 2
    assert len(started) == 2 and taken == 20


def test_an_error_in_a_process_is_the_error_here(started: list[subprocess.Popen[Any]]):
    chunks = [*make_chunks(6), Chunk(["abc?"], [True]), *make_chunks(6)]
    with pytest.raises(TokenizerError, match=r"'\?' \(U\+003F\) at offset 3 has no token"):
        list(encoding.encode(iter(chunks), make_encoder(), 2))
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2


def test_a_process_that_is_killed_is_named(started: list[subprocess.Popen[Any]]):
    def chunks() -> Iterator[Chunk]:
        yield from make_chunks(6)
        started[1].kill()
        yield from make_chunks(6)

    with pytest.raises(DataError, match="SIGKILL; see that memory suffices") as caught:
        list(encoding.encode(chunks(), make_encoder(), 2))
    assert f"process {started[1].pid}," in str(caught.value)
    assert all(process.returncode is not None for process in started)


def test_a_process_that_cannot_start_is_named(
    started: list[subprocess.Popen[Any]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encoding, "SERVE", "raise SystemExit(7)")
    with pytest.raises(DataError, match=r"ended with 7"):
        list(encoding.encode(make_chunks(6), make_encoder(), 2))
    assert len(started) == 2


def test_processes_end_with_whoever_no_longer_wants_their_tokens(
    started: list[subprocess.Popen[Any]],
):
    tokens = encoding.encode(make_chunks(50), make_encoder(), 2)
    assert isinstance(tokens, Generator)
    for _ in range(6):
        next(tokens)
    assert [process.returncode for process in started] == [None, None]
    tokens.close()
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2


def encode_and_hang(connection: Connection) -> None:
    """Start two processes, tell their ids, and keep them waiting."""
    pids: list[int] = []
    popen = subprocess.Popen

    def note(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        process = popen(*arguments, **options)
        pids.append(process.pid)
        return process

    subprocess.Popen, encoding.INLINE_CHUNKS = note, 0
    tokens = encoding.encode(make_chunks(9), make_encoder(), 2)
    next(tokens)
    connection.send(pids)
    time.sleep(60)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_end_with_a_parent_that_is_killed():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=encode_and_hang, args=(theirs,))
    with ours, theirs:
        process.start()
        assert ours.poll(60)
        pids = ours.recv()
        assert len(pids) == 2 and all(map(is_running, pids))
        process.kill()
        process.join()
    end = time.monotonic() + 20
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(is_running, pids))
