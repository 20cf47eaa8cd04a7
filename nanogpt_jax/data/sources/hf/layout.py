"""Which files of a dataset are a configuration and a split: as its card says, else by their names.

The rules are those of the hub, as far as they can be told from names; nothing is opened here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

# The words by which files name a split.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_NUMBERED = re.compile(r"(.+)-\d{5}-of-\d{5}(-.*)?")
_WORDS = re.compile(r"[^A-Za-z]+")
_GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", re.DOTALL)
_GLOBS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class Shard(NamedTuple):
    """A Parquet file of a dataset, as its commit has it."""

    path: str
    size_bytes: int
    oid: str


def choose(
    shards: Sequence[Shard], configs: Sequence[Mapping[str, Any]], config: str, split: str
) -> list[Shard]:
    """The files of a configuration and a split, in their order; empty where none is.

    `configs` are those of the dataset's card, which go before all names. By name, a configuration
    is a folder, and a split is a folder or a word of a file's name; where no name has a split in
    it, all files are `train`.
    """
    inside = [shard for shard in shards if config in _folders(shard)]
    for entry in configs:
        if entry.get("config_name") == config:
            folder = str(entry.get("data_dir") or "").strip("/")
            root = f"{folder}/" if folder else ""
            if "data_files" in entry:
                globs = [_compile(root + glob) for glob in _globs(entry["data_files"], split)]
                return [shard for shard in shards if any(g.fullmatch(shard.path) for g in globs)]
            inside = [shard for shard in shards if shard.path.startswith(root)]
    if not inside and config == "default":
        inside = list(shards)
    names = [_splits(shard) for shard in inside]
    if split == "train" and not any(found & {*SPLITS.values()} for found in names):
        return inside
    return [shard for shard, found in zip(inside, names, strict=True) if split in found]


def _folders(shard: Shard) -> set[str]:
    """What a configuration in this place may be called: a folder, or the way to one."""
    folders = PurePosixPath(shard.path).parent.parts
    return {*folders, *("/".join(folders[: depth + 1]) for depth in range(len(folders)))}


def _splits(shard: Shard) -> set[str]:
    """The splits that the path names."""
    path = PurePosixPath(shard.path)
    if numbered := _NUMBERED.fullmatch(path.stem):
        return {numbered[1]}
    # The hub calls a conversion that it broke off "partial-train".
    folders = {folder.removeprefix("partial-") for folder in path.parent.parts}
    words = {word.lower() for part in path.with_suffix("").parts for word in _WORDS.split(part)}
    return {path.stem, *folders, *(SPLITS[word] for word in words & SPLITS.keys())}


def _globs(data_files: Any, split: str) -> list[str]:
    """The patterns of a split; a card gives a pattern, a list of them, or either by split."""
    found: list[str] = []
    for entry in data_files if isinstance(data_files, list) else [data_files]:
        named = entry if isinstance(entry, dict) else {"split": "train", "path": entry}
        if named.get("split") == split:
            paths = named.get("path")
            found += paths if isinstance(paths, list) else [str(paths)]
    return found


def _compile(glob: str) -> re.Pattern[str]:
    try:
        return re.compile("".join(map(_translate, _GLOB.findall(glob))))
    except re.error:  # a class that is none, as [z-a]: then the name itself is meant
        return re.compile(re.escape(glob))


def _translate(piece: str) -> str:
    if piece.startswith("[") and len(piece) > 1:
        return piece.replace("[!", "[^", 1)
    return _GLOBS.get(piece) or re.escape(piece)
