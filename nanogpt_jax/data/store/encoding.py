"""Chunks of text to tokens, in order: in this process, and when there are many, in several.

The others are fresh interpreters at the ends of pipes. (multiprocessing would import the command's
own module in each, which for training is JAX and hundreds of megabytes, and its pools leave
processes behind when their parent is killed.) Nothing here touches a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol, Self

import numpy as np

from nanogpt_jax.data.store.pieces import Chunk
from nanogpt_jax.data.store.shards import PIECE, Encoded
from nanogpt_jax.errors import DataError, NanogptError

# Chunks that are encoded before processes are started: with less, these are not worth their while.
INLINE_CHUNKS = 32
# Each takes some hundred megabytes, and one process cuts and writes for all.
MAX_PROCESSES = 8
SERVE = "import sys; from nanogpt_jax.data.store import encoding; encoding.serve(int(sys.argv[1]))"


class Codec(Protocol):
    """What is asked of a tokenizer here, and of whatever stands for one; it can be pickled."""

    @property
    def vocab_size(self) -> int:
        """The number of ids."""
        ...

    @property
    def bos_id(self) -> int:
        """The id that a document begins with."""
        ...

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The UTF-8 bytes of each id."""
        ...

    @property
    def sha256(self) -> str:
        """A hash of what decides the ids of a text."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> Sequence[np.ndarray]:
        """The ids of each text."""
        ...


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What makes a chunk tokens: BOS before each document, unless the text is `running`."""

    tokenizer: Codec
    running: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Two bytes for each token where they suffice."""
        return np.dtype("<u2" if self.tokenizer.vocab_size <= 2**16 else "<u4")

    def __call__(self, chunk: Chunk) -> Encoded:
        """The tokens of `chunk`; TokenizerError where a character has none."""
        bos = np.array([self.tokenizer.bos_id], self.dtype)
        found, rows = [np.zeros(0, self.dtype)], []
        encoded = self.tokenizer.encode_batch(chunk.texts)
        for text, opens, ids in zip(*chunk, encoded, strict=True):
            begun = [bos] if opens and not self.running else []
            found += [*begun, ids]
            rows.append((len(begun) + len(ids), len(text), len(text.encode()), opens))
        ids = np.concatenate(found, dtype=self.dtype, casting="unsafe")
        return Encoded(ids, np.array(rows, PIECE))


def encode(
    chunks: Iterator[Chunk], encoder: Encoder, processes: int | None = None
) -> Iterator[Encoded]:
    """The tokens of each chunk, in order; `processes` None: one per core, up to 8.

    DataError names a process that has died.
    """
    if processes is None:
        processes = min(count_cores(), MAX_PROCESSES)
    if processes < 2:
        yield from map(encoder, chunks)
        return
    yield from map(encoder, itertools.islice(chunks, INLINE_CHUNKS))
    if (following := next(chunks, None)) is not None:
        yield from _encode_apart(itertools.chain([following], chunks), encoder, processes)


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _encode_apart(chunks: Iterable[Chunk], encoder: Encoder, processes: int) -> Iterator[Encoded]:
    """A process has one chunk at a time, so that no more are in memory than there are processes."""
    with contextlib.ExitStack() as stack:
        free = deque(stack.enter_context(_Worker()) for _ in range(processes))
        for worker in free:
            worker.send(encoder)
        busy: deque[_Worker] = deque()
        for chunk in chunks:
            worker = free.popleft()
            worker.send(chunk)
            busy.append(worker)
            if not free:
                free.append(busy.popleft())
                yield free[0].receive()
        for worker in busy:
            yield worker.receive()


class _Worker:
    """A process that runs `serve`; it ends when it is left, or when its parent ends however."""

    def __init__(self):
        self._connection, theirs = multiprocessing.Pipe()
        # The library's own threads would compete with the other processes.
        environment = {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TOKENIZERS_PARALLELISM": "false",
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=os.environ | environment,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for the parent, which ends this one
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # first: it would end by itself once nothing more can come
        self._process.wait()
        self._connection.close()

    def send(self, message: Encoder | Chunk) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._death() from error

    def receive(self) -> Encoded:
        try:
            result = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if isinstance(result, NanogptError):
            raise result
        return result

    def _death(self) -> DataError:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return DataError(
            f"process {self._process.pid}, which was encoding text, {how}; see that memory "
            "suffices and run the command again: it goes on after the last finished shard"
        )


def serve(handle: int) -> None:
    """Encode the chunks that come through a connection, until its other end is closed."""
    with Connection(handle) as connection, contextlib.suppress(EOFError, ConnectionError):
        encoder: Encoder = connection.recv()
        while True:
            chunk = connection.recv()
            try:
                result = encoder(chunk)
            except NanogptError as error:
                result = error
            connection.send(result)
