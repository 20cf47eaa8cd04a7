"""`files:PATH_OR_GLOB[?column=NAME]`: files, folders and patterns of them, a record a document.

A folder is searched to the bottom for the extensions that records.py reads. Hidden files are left
out, a file that is reached twice counts once, and the order is that of the paths.
"""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from nanogpt_jax.data.corpus import Corpus, Opening
from nanogpt_jax.data.sources import Opener, found, require, sources
from nanogpt_jax.data.sources.found import Report
from nanogpt_jax.data.sources.records import SUFFIXES, read_texts
from nanogpt_jax.errors import ConfigError, DataError
from nanogpt_jax.registry import unknown

FORM = "files:PATH_OR_GLOB[?column=NAME]"
OPTIONS = ("column",)


@sources
def files(argument: str) -> Opener:
    """Text files, each a document, and .jsonl, .json, .csv and .parquet, each record a document."""
    pattern, column = _parse(argument)
    return functools.partial(_open, pattern, column)


def _parse(argument: str) -> tuple[str, str | None]:
    """Pattern and column; a question mark without an equals sign behind it is of the pattern."""
    pattern, mark, query = argument.rpartition("?")
    if not mark or "=" not in query:
        require(argument, FORM)
        return argument, None
    require(pattern, FORM)
    options: dict[str, str] = {}
    problems: list[str] = []
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if name not in OPTIONS:
            problems.append(unknown("option", name, OPTIONS))
        elif not value:
            problems.append(f"option {name!r} has no value")
        elif name in options:
            problems.append(f"option {name!r} is given twice")
        options[name] = value
    if problems:
        raise ConfigError([f"data.source='files:{argument}': {line}" for line in problems])
    return pattern, options["column"]


def _open(pattern: str, column: str | None, opening: Opening) -> Corpus:
    chosen = [found.find(path) for path in _paths(pattern)]
    folder = os.path.commonpath([file.path.parent for file in chosen])
    named = [(file.path.relative_to(folder).as_posix(), file) for file in chosen]

    def read(report: Report) -> Iterator[str]:
        for file in chosen:
            yield from read_texts(file, column, report)

    option = f"?column={column}" if column else ""
    identity = f"files:{Path(pattern).name}{option}"
    return found.documents(identity, found.fingerprint(f"files{option}", named), read, opening.bad)


def _paths(pattern: str) -> Sequence[Path]:
    """The files that a path or pattern means, sorted; never none."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        inside = glob.glob(f"{glob.escape(str(path))}/**", recursive=True)
        paths, others = _by_suffix(inside)
        if others:
            logging.info("files:%s: %d files of other kinds left out", pattern, len(others))
        if not paths:
            raise DataError(
                f"data.source=files:{pattern} has no file that ends in {', '.join(SUFFIXES)}; "
                "give another folder"
            )
        return paths
    # A name with brackets in it may be a file's own.
    paths, others = _by_suffix(
        [str(path)] if path.exists() else glob.glob(str(path), recursive=True)
    )
    if others:
        raise DataError(
            f"data.source=files:{pattern} means {others[0]}, but only {', '.join(SUFFIXES)} are "
            "read; give another pattern, or text:PATH for one text file of any name"
        )
    if not paths:
        raise DataError(
            f"data.source=files:{pattern} matches no file; give a file, a folder or a pattern "
            "such as 'files:DIR/**/*.jsonl'"
        )
    return paths


def _by_suffix(matches: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The files among the matches, each once and sorted: those that can be read, and others."""
    # The shortest name comes last and stays: the one that leads through no link back.
    once = {
        os.path.realpath(match): Path(match)
        for match in sorted(matches, key=lambda match: (len(match), match), reverse=True)
    }
    readable: list[Path] = []
    others: list[Path] = []
    for path in sorted(once.values()):
        if not path.is_dir():
            (readable if path.suffix.lower() in SUFFIXES else others).append(path)
    return readable, others
