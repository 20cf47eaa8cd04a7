"""Tokens on disk: files of bounded size, and an index that says what each of them holds.

A shard is two raw little-endian files, the ids and a table of the pieces of text that they came
from. The index is replaced as a whole after each finished shard, so whoever writes can be killed
at any moment and go on behind the last shard that is intact. Nothing here knows a text or a
tokenizer, or keeps two from writing at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# 64 MiB at two bytes each: little to do again after an interruption, few files.
SHARD_TOKENS = 2**25
PIECE = np.dtype([("tokens", "<u4"), ("characters", "<u4"), ("bytes", "<u4"), ("opens", np.bool_)])
INDEX = "index.json"
UNFINISHED = ".unfinished"


class Encoded(NamedTuple):
    """Tokens of some consecutive pieces: their ids, and a row of `PIECE` for each piece."""

    ids: np.ndarray
    pieces: np.ndarray


class Seal(NamedTuple):
    """What a file must be."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Shard:
    """One finished shard: what it holds, and the seals of its files by name."""

    tokens: int
    documents: int  # that begin in it
    characters: int
    pieces: int
    files: Mapping[str, Seal]


@dataclasses.dataclass(frozen=True)
class Index:
    """The finished shards; `columns` are the files made from all of them, at the very end."""

    shards: Sequence[Shard] = ()
    columns: Mapping[str, Seal] = dataclasses.field(default_factory=dict)

    @property
    def files(self) -> dict[str, Seal]:
        """The seals of all files."""
        shards = (shard.files for shard in self.shards)
        return {name: seal for files in (*shards, self.columns) for name, seal in files.items()}


def read_index(folder: Path) -> Index:
    """The index of `folder`; an empty one where there is none that can be read."""
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        shards = [
            Shard(**shard | {"files": _read_seals(shard["files"])}) for shard in content["shards"]
        ]
        return Index(shards, _read_seals(content["columns"]))
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return Index()


def _read_seals(content: Mapping[str, Any]) -> dict[str, Seal]:
    return {name: Seal(*seal) for name, seal in content.items()}


def save_index(folder: Path, index: Index) -> None:
    """Put `index` in the place of the last one."""
    with open(folder / f"{INDEX}{UNFINISHED}", "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(index), file, indent=1)
    finish(folder, INDEX)


def finish(folder: Path, name: str) -> Seal:
    """Give an unfinished file its name, once all of it is on the disk."""
    unfinished = folder / f"{name}{UNFINISHED}"
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())  # else a power cut leaves the name on an empty file
        seal = Seal(unfinished.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    unfinished.replace(folder / name)
    return seal


def find_damage(folder: Path, files: Mapping[str, Seal], *, content: bool) -> str | None:
    """What is wrong with the first file that is not as sealed; sizes only without `content`."""
    for name, seal in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if (found := path.stat().st_size) != seal.bytes:
            return f"{path} has {found} bytes, {seal.bytes} were written"
        if content:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != seal.sha256:
                    return f"{path} does not hold what was written"
    return None


def keep_intact(folder: Path) -> list[Shard]:
    """The finished shards up to the first that is damaged; every other file is removed."""
    folder.mkdir(exist_ok=True)
    finished = read_index(folder).shards
    kept = Index(
        list(
            itertools.takewhile(
                lambda shard: not find_damage(folder, shard.files, content=True), finished
            )
        )
    )
    save_index(folder, kept)
    for path in folder.iterdir():
        if path.name not in (INDEX, *kept.files):
            path.unlink()  # whoever has mapped it keeps it
    return list(kept.shards)


def write_shards(folder: Path, encoded: Iterable[Encoded], first: int) -> Iterator[Shard]:
    """Write shards, numbered from `first` on, giving each when it is finished.

    One has at most `SHARD_TOKENS`, unless what is encoded at once is more.
    """
    for number, members in itertools.groupby(_number(encoded, first), lambda member: member[0]):
        names = ids_name(number), pieces_name(number)
        ids_path, pieces_path = (folder / f"{name}{UNFINISHED}" for name in names)
        tokens = documents = characters = count = 0
        with ids_path.open("wb") as ids_file, pieces_path.open("wb") as pieces_file:
            for _, (ids, pieces) in members:
                ids.tofile(ids_file)
                pieces.tofile(pieces_file)
                tokens += len(ids)
                documents += int(pieces["opens"].sum())
                characters += int(pieces["characters"].sum())
                count += len(pieces)
        files = {name: finish(folder, name) for name in names}
        yield Shard(tokens, documents, characters, count, files)


def _number(encoded: Iterable[Encoded], number: int) -> Iterator[tuple[int, Encoded]]:
    """Each with the number of the shard that it goes to."""
    tokens = 0
    for each in encoded:
        if tokens and tokens + len(each.ids) > SHARD_TOKENS:
            number, tokens = number + 1, 0
        tokens += len(each.ids)
        yield number, each


def ids_name(number: int) -> str:
    """The file of a shard's ids."""
    return f"{number:05}.ids"


def pieces_name(number: int) -> str:
    """The file of a shard's pieces."""
    return f"{number:05}.pieces"


class Joined:
    """Arrays one after another, read like the one array that they would make together."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self._arrays = [np.asarray(array) for array in arrays]  # a memmap's view is slower
        self._ends = np.cumsum([len(array) for array in arrays])
        self.dtype = arrays[0].dtype

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, places: Any) -> Any:
        """What an array gives for an integer, a slice or an array of integers of any shape."""
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            begins = self._ends - [len(array) for array in self._arrays]
            return np.concatenate(
                [
                    array[max(start - begin, 0) : max(stop - begin, 0)]
                    for array, begin in zip(self._arrays, begins.tolist(), strict=True)
                ]
            )
        return self.take(places)

    def take(self, places: Any, mode: str = "raise") -> Any:
        """What `numpy.take` gives; `mode` is raise or clip."""
        places = np.asarray(places)
        if mode == "clip":
            places = places.clip(0, len(self) - 1)
        elif places.size and not -len(self) <= places.min() <= places.max() < len(self):
            raise IndexError(f"places {places.min()} to {places.max()} of {len(self)}")
        places = places % len(self)
        chosen = np.searchsorted(self._ends, places, side="right")
        taken = np.empty(places.shape, self.dtype)
        for number in np.unique(chosen):
            here = chosen == number
            # Counted from the array's end, which is below zero as negative places are.
            taken[here] = self._arrays[number][places[here] - self._ends[number]]
        return taken[()]

    def tolist(self) -> list[int]:
        """All of them, as Python's integers."""
        return self.__array__().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # always a new one
        return np.concatenate(self._arrays, dtype=dtype)


def map_ids(folder: Path, shards: Sequence[Shard], dtype: np.dtype[Any]) -> np.ndarray | Joined:
    """The ids of all shards, from the disk: a plain memory map where one shard has them all."""
    arrays = [
        np.memmap(folder / ids_name(number), dtype, mode="r")
        for number, shard in enumerate(shards)
        if shard.tokens  # nothing cannot be mapped
    ]
    if not arrays:
        return np.zeros(0, dtype)
    return arrays[0] if len(arrays) == 1 else Joined(arrays)


def map_pieces(folder: Path, shards: Sequence[Shard]) -> Iterator[np.ndarray]:
    """The table of pieces of each shard."""
    for number in range(len(shards)):
        yield np.memmap(folder / pieces_name(number), PIECE, mode="r")
