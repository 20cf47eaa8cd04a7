"""`source:DIR`: the code of a repository, each file under a line that names it.

Which files are code is decided by their extensions; version control, dependencies and what is built
are passed over by the names of their folders. Nothing reads .gitignore.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from nanogpt_jax.data.corpus import Corpus, Opening
from nanogpt_jax.data.sources import Opener, found, require, sources
from nanogpt_jax.data.sources.found import FoundFile
from nanogpt_jax.errors import DataError

SKIPPED_FOLDERS = frozenset(
    ".git .hg .svn .idea .vscode target node_modules dist build .next coverage __pycache__".split()
)
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "rs toml js jsx ts tsx mjs cjs py go java kt kts c h cc cpp hpp cs swift rb php sh bash "
        "zsh fish html css scss json yaml yml sql md"
    ).split()
)
# Files by their names, in the order in which they are read.
Named = Sequence[tuple[str, FoundFile]]


@sources
def source(argument: str) -> Opener:
    """The code below a folder: running text, or a file a document."""
    require(argument, "source:DIR")
    return functools.partial(_open, argument)


def _open(argument: str, opening: Opening) -> Corpus:
    folder = Path(argument).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.source=source:{argument} is not a folder; give that of a repository")
    every = [(path.relative_to(folder).as_posix(), found.find(path)) for path in _paths(folder)]
    kept = [(name, file) for name, file in every if _is_text(file.read())]
    logging.info(
        "source:%s: %d files, %d more skipped because they are binary or not UTF-8",
        argument,
        len(kept),
        len(every) - len(kept),
    )
    if not kept:
        raise DataError(
            f"data.source=source:{argument} has no file of code; give another folder, or read "
            "text with files:PATH"
        )
    identity, fingerprint = f"source:{folder.resolve().name}", found.fingerprint("source", kept)
    if opening.documents:
        return found.documents(identity, fingerprint, lambda _: _texts(kept), opening.bad)
    return found.running_text(identity, fingerprint, lambda: "".join(_texts(kept)))


def _paths(folder: Path) -> Sequence[Path]:
    """The files of code below `folder`, sorted; links are not followed."""
    paths: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        paths += [Path(parent, name) for name in names]
    return sorted(path for path in paths if path.suffix in SUFFIXES and not path.is_symlink())


def _refuse(error: OSError) -> None:
    raise DataError(
        f"{error.filename} cannot be listed ({error.strerror}); make it readable, or move it away"
    ) from error


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _texts(files: Named) -> Iterator[str]:
    for name, file in files:
        text = file.read().decode()
        ending = "" if text.endswith("\n") else "\n"
        yield f"=== {name} ===\n{text}{ending}"
