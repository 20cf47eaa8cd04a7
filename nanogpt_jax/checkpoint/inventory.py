"""The files of a folder, with their sizes and SHA-256: taken when it is saved, compared later.

Nothing here follows a link, or knows what a file means.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nanogpt_jax.checkpoint.strict import open_plain

MOST_FILES = 4096
# Hashing a terabyte that takes no room on the disk would take an hour. Arrays of a real save are
# dense, but for zeros under a file system that compresses.
_LARGE_BYTES = 64 << 20
_LARGEST_SPARSENESS = 64


class Mark(NamedTuple):
    """What tells a file from any other."""

    size_bytes: int
    sha256: str


class Difference(NamedTuple):
    """A file, by its path in the folder, and what is wrong with it."""

    file: str
    problem: str


def take(folder: Path) -> dict[str, Mark]:
    """The files by path, as they are on the disk: they and their folders are synchronised first.

    ValueError where one is no plain file.
    """
    walked = _walk(folder)
    folders = ["", *(name for name, found in walked.items() if stat.S_ISDIR(found.st_mode))]
    marks = {}
    for name in sorted(walked.keys() - {*folders}):
        sync(folder / name)
        with open_plain(folder / name) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            marks[name] = Mark(walked[name].st_size, sha256)
    for name in sorted(folders, reverse=True):  # what is inside comes first
        sync(folder / name)
    return marks


def sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, would survive a loss of power."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    except OSError as error:  # which knows no name
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(handle)


def find_difference(folder: Path, marks: Mapping[str, Mark], *, beside: str) -> Difference | None:
    """The first of the files that is not as `marks` say, also one too many; None if there is none.

    The file `beside` has no mark. Sizes are compared before anything is read.
    """
    try:
        walked = _walk(folder)
    except (OSError, ValueError) as error:
        return Difference("", explain(error))
    found = {name: one for name, one in walked.items() if not stat.S_ISDIR(one.st_mode)}
    names = sorted((found.keys() | marks.keys()) - {beside})
    problems = ((name, _look(found.get(name), marks.get(name))) for name in names)
    differences = [Difference(name, problem) for name, problem in problems if problem]
    if differences:
        return differences[0]
    return next(_altered(folder, marks), None)


def _look(found: os.stat_result | None, mark: Mark | None) -> str | None:
    if found is None:
        return "it is missing"
    if not stat.S_ISREG(found.st_mode):
        return "a link or special file is in its place, a plain file is required"
    if mark is None:
        return "it was not saved with the others"
    if found.st_size != mark.size_bytes:
        return f"it has {found.st_size} bytes, {mark.size_bytes} are required"
    if found.st_size > max(_LARGE_BYTES, _LARGEST_SPARSENESS * 512 * found.st_blocks):
        return f"of its {found.st_size} bytes, {512 * found.st_blocks} are on the disk"
    return None


def _altered(folder: Path, marks: Mapping[str, Mark]) -> Iterator[Difference]:
    for name, mark in sorted(marks.items()):
        try:
            with open_plain(folder / name) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            yield Difference(name, explain(error))
        else:
            if sha256 != mark.sha256:
                problem = f"its SHA-256 is {sha256[:12]}, {mark.sha256[:12]} is required"
                yield Difference(name, problem)


def _walk(folder: Path) -> dict[str, os.stat_result]:
    """All that is in `folder`, by path in it; ValueError where that is far too much."""
    found: dict[str, os.stat_result] = {}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                found[name] = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                if len(found) > MOST_FILES:
                    raise ValueError(f"it holds more than {MOST_FILES} files and folders")
    return found


def explain(error: Exception) -> str:
    """An error in words; one of the system by name and text, without the path it names."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{errno.errorcode.get(error.errno, error.errno)}, {os.strerror(error.errno)}"
    return str(error)
