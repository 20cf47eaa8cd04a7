"""What is known of each document of a part: where it starts, its sizes, its probability.

One array a file, read off the finished shards and written beside them. Nothing here encodes text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nanogpt_jax.data.store.encoding import Encoder
from nanogpt_jax.data.store.shards import UNFINISHED, Seal, Shard, finish, map_ids, map_pieces
from nanogpt_jax.errors import DataError

# Tokens that are looked up at once.
BLOCK_TOKENS = 2**20


def write(
    folder: Path,
    shards: Sequence[Shard],
    nats: Sequence[float] | np.ndarray | None,
    encoder: Encoder,
    name: str,
) -> dict[str, Seal]:
    """Write the columns of the part called `name`; `nats` are those of its `Documents`.

    DataError where `nats` do not fit the text.
    """
    count = sum(shard.documents for shard in shards)
    _write_sizes(folder, shards, count)
    if nats is not None and encoder.running:
        _write_token_nats(folder, shards, np.asarray(nats, np.float64), encoder, name)
    elif nats is None or len(nats) == count:
        _create(folder, "nats", np.float64, count)[:] = np.nan if nats is None else nats
    else:
        raise DataError(
            f"{name} has {count} documents and probabilities of {len(nats)}; "
            "its source must give one for each"
        )
    names = ("starts.npy", "characters.npy", "bytes.npy", "nats.npy")
    return {name: finish(folder, name) for name in names}


def _create(folder: Path, name: str, dtype: type, count: int) -> np.memmap:
    path = folder / f"{name}.npy{UNFINISHED}"
    return np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (count,))


def _write_sizes(folder: Path, shards: Sequence[Shard], count: int) -> None:
    starts = _create(folder, "starts", np.int64, count + 1)
    sizes = {name: _create(folder, name, np.int64, count) for name in ("characters", "bytes")}
    documents, tokens = 0, 0
    for pieces in map_pieces(folder, shards):
        opens = pieces["opens"]
        # A shard's first pieces may go on with the last document of the one before.
        document = documents - 1 + np.cumsum(opens)
        ends = tokens + np.cumsum(pieces["tokens"], dtype=np.int64)
        starts[document[opens]] = (ends - pieces["tokens"])[opens]
        for name, size in sizes.items():
            np.add.at(size, document, pieces[name])
        documents, tokens = int(document[-1]) + 1, int(ends[-1])
    starts[-1] = tokens


def _write_token_nats(
    folder: Path, shards: Sequence[Shard], nats: np.ndarray, encoder: Encoder, name: str
) -> None:
    """Add up the nats of a token's characters."""
    ids = map_ids(folder, shards, encoder.dtype)
    sizes = np.array([len(token) for token in encoder.tokenizer.token_bytes])
    characters = sum(shard.characters for shard in shards)
    n_bytes = sum(int(pieces["bytes"].sum()) for pieces in map_pieces(folder, shards))
    blocks = range(0, len(ids), BLOCK_TOKENS)
    spelled = sum(int(sizes[ids[at : at + BLOCK_TOKENS]].sum()) for at in blocks)
    # Tokens are made of bytes, and only those of ASCII are characters.
    if not len(nats) == characters == n_bytes == spelled:
        raise DataError(
            f"{name} has {characters} characters of {n_bytes} bytes, probabilities of {len(nats)} "
            f"and tokens of {spelled} bytes; these must be equal where probabilities are known: "
            "ASCII text, and a tokenizer that keeps all of it"
        )
    summed = _create(folder, "nats", np.float64, len(ids))
    begin = 0
    for at in blocks:
        lengths = sizes[ids[at : at + BLOCK_TOKENS]]
        ends = np.cumsum(lengths)
        of_block = nats[begin : begin + ends[-1]]
        summed[at : at + BLOCK_TOKENS] = np.add.reduceat(of_block, ends - lengths)
        begin += ends[-1]
