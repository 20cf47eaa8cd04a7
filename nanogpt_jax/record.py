"""`run.json`: what a run is, written when it starts, so that a directory explains itself.

No absolute path, user, host or environment goes into it; of the corpus, a few words.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.interface import ModelShape

NAME = "run.json"
VERSION = 1
LONGEST_BYTES = 1 << 20
LONGEST_OPENING = 40  # characters of a corpus that a record quotes
# ADDRESS=, KIND: or nothing, then the folder of an absolute path; hf://... is no path. A mixture
# has several, each after its share.
FOLDER = r"(?s)^((?:[\w.]+=)?(?:mix:)?(?:[\d.]+\*)?(?:\w+:)?)/(?!/)(?:.*/)?(?=[^/])"
NEXT_SHARE = r"(?=\+[\d.]+\*)\+"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers", "numpy")


@dataclasses.dataclass(frozen=True)
class Record:
    """A run: its resolved config, what was typed, what it was made with and of."""

    config: dict[str, Any]
    overrides: list[str]
    git_commit: str | None
    versions: dict[str, str]
    tokenizer: dict[str, Any]  # kind, sha256, vocab_size
    corpus: dict[str, Any]  # source, fingerprint, running, opening: the first words held out
    model: dict[str, Any]  # ModelShape
    parameters: int
    compute_dtype: str = ""  # what `auto` has meant; empty where the run is older than that
    # What was allowed to become another run's: step, field, from, to.
    changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    version: int = VERSION

    @property
    def shape(self) -> ModelShape:
        """The numbers that name the model."""
        return ModelShape(**self.model)

    def save(self, directory: Path) -> None:
        """Writes `run.json`: the whole file or none."""
        directory.mkdir(parents=True, exist_ok=True)
        unfinished = directory / f".{NAME}.{os.getpid()}"
        try:
            with open(unfinished, "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(self), file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(directory / NAME)
        finally:
            unfinished.unlink(missing_ok=True)


def read(directory: Path) -> Record:
    """The record of a run directory; NoCheckpoint where there is none, or not of this version."""
    path = directory / NAME
    try:
        with path.open(encoding="utf-8") as file:
            values = json.loads(file.read(LONGEST_BYTES))
        if not isinstance(values, dict):
            raise ValueError("a JSON object is required")
        if values.get("version") != VERSION:
            raise ValueError(f"version {values.get('version')!r:.80} found, {VERSION} is required")
        return _parse(values)
    except FileNotFoundError as error:
        raise NoCheckpoint(
            f"{directory} is no run directory: it has no {NAME}; name one with --workdir, or train"
        ) from error
    except RecursionError as error:
        raise NoCheckpoint(f"{path} is damaged: it is nested too deeply") from error
    except (ValueError, OSError) as error:
        raise NoCheckpoint(f"{path} is damaged: {error}") from error


def _parse(values: Mapping[str, Any]) -> Record:
    """The record that `values` are, or ValueError saying what is wrong with them."""
    values = {"compute_dtype": "", "changes": [], **values}  # a run may be older than these
    _require(values, typing.get_type_hints(Record))
    _require(values["model"], typing.get_type_hints(ModelShape))
    _require(values["tokenizer"], {"kind": str, "sha256": str, "vocab_size": int})
    corpus = values["corpus"] = {"opening": "", **values["corpus"]}  # likewise
    _require(corpus, {"source": str, "fingerprint": str, "running": bool, "opening": str})
    if (found := len(corpus["opening"])) > LONGEST_OPENING:
        raise ValueError(f"opening has {found} characters, at most {LONGEST_OPENING} are required")
    for change in values["changes"]:
        _require(change, {"step": int, "field": str, "from": object, "to": object})
    return Record(**values)


def _require(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    for name in sorted(values.keys() ^ kinds.keys()):
        raise ValueError(f"{name} is {'missing' if name in kinds else 'not known'}")
    for name, kind in kinds.items():
        plain = kind if isinstance(kind, types.UnionType) else typing.get_origin(kind) or kind
        if not isinstance(values[name], plain):
            raise ValueError(f"{name} is {values[name]!r:.80}")


def without_folders(value: Any) -> Any:
    """`value` with every absolute path in its strings shortened to the name of the file.

    Strings are a path, KIND:PATH, a mixture of those, or ADDRESS=any; what a path held is known by
    fingerprint.
    """
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    if not isinstance(value, str):
        return value
    parts = re.split(NEXT_SHARE, value) if "mix:" in value else [value]
    return "+".join(re.sub(FOLDER, r"\1", part) for part in parts)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def git_commit() -> str | None:
    """The commit of the code, with `+` when files differ from it; None outside a repository."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
