"""Runs that were opened to be looked at: one model for all that compute alike, few parameters.

Programs are compiled for a model, so equal models must be one. Parameters are read again only when
they were forgotten, or saved anew. Nothing is generated here, and no run is looked for.
"""

from __future__ import annotations

import collections
import dataclasses
import stat
import threading
import weakref
from pathlib import Path
from typing import NamedTuple

import jax

from nanogpt_jax import checkpoint, experiment, record, tokenization
from nanogpt_jax.checkpoint import Sidecar
from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.experiment import Opened, Plan
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import LanguageModel, Params
from nanogpt_jax.tokenization import Tokenizer

# What is kept of a run but for its parameters is a tokenizer, of a few megabytes at most.
MOST_OPEN = 32
# Parameters of a small run at all its milestones; of a large one, two to be compared.
MOST_KEPT_BYTES = 256 << 20
LEAST_KEPT = 2


class Models:
    """The models of a server, each made once.

    None is forgotten: its programs would stay with JAX, and be compiled anew all the same.
    """

    def __init__(self):
        self._models: dict[object, LanguageModel] = {}
        self._generators: dict[object, Generator] = {}  # by a model's own function
        self._lock = threading.Lock()

    def build(self, plan: Plan, vocab_size: int) -> LanguageModel:
        """The model of a plan, as `experiment.build_model` makes it."""
        key = (plan.model_name, plan.model, plan.train.compute_dtype, vocab_size)
        with self._lock:
            if key not in self._models:
                self._models[key] = experiment.build_model(plan, vocab_size)
            return self._models[key]

    def generator(self, model: LanguageModel, context_length: int) -> Generator:
        """What generates with a model of ours, always the same."""
        with self._lock:
            if model.apply not in self._generators:
                self._generators[model.apply] = Generator(model, context_length)
            return self._generators[model.apply]


class _Stamp(NamedTuple):
    """What changes when a file is written anew, or another takes its place."""

    inode: int
    size_bytes: int
    changed_ns: int


_Stamps = tuple[_Stamp, ...]


class _Kept(NamedTuple):
    sidecar: Sidecar
    params: Params
    size_bytes: int


class Library:
    """Run directories and parameters of theirs; any thread may ask, and one at a time reads."""

    def __init__(self, models: Models, *, most_kept_bytes: int = MOST_KEPT_BYTES):
        self.models = models
        self._most_kept_bytes = most_kept_bytes
        self._opening, self._reading = threading.Lock(), threading.Lock()
        self._runs: collections.OrderedDict[Path, tuple[_Stamps, Opened]] = (
            collections.OrderedDict()
        )
        self._tokenizers: weakref.WeakValueDictionary[str, Tokenizer] = (
            weakref.WeakValueDictionary()
        )
        self._kept: collections.OrderedDict[tuple[Path, int], _Kept] = collections.OrderedDict()

    def open(self, workdir: Path) -> Opened:
        """A run as its files are now; raises what `experiment.open_run` does."""
        stamps = _look(workdir)
        with self._opening:
            known = self._runs.get(workdir)
            if known is None or known[0] != stamps:
                known = stamps, self._open(workdir)
            self._runs[workdir] = known
            self._runs.move_to_end(workdir)
            while len(self._runs) > MOST_OPEN:
                self._runs.popitem(last=False)
            return known[1]

    def read(self, opened: Opened, step: int) -> Params:
        """The parameters of a checkpoint; NoCheckpoint or Mismatch where they cannot be used."""
        key = (opened.workdir, step)
        with self._reading:
            sidecar = checkpoint.read_sidecar(*key)
            kept = self._kept.get(key)
            if kept is None or kept.sidecar != sidecar:
                checkpoint.verify(*key)
                params = opened.read(step).params
                kept = _Kept(sidecar, params, sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
            self._kept[key] = kept
            self._kept.move_to_end(key)
            self._forget()
            return kept.params

    def _open(self, workdir: Path) -> Opened:
        opened = experiment.open_run(workdir, self.models.build)
        sha256 = opened.record.tokenizer["sha256"]
        shared = self._tokenizers.setdefault(sha256, opened.tokenizer)
        return dataclasses.replace(opened, tokenizer=shared)

    def _forget(self) -> None:
        """Lets go of what was not asked for in a long time."""
        sizes = [kept.size_bytes for kept in self._kept.values()]
        while len(sizes) > LEAST_KEPT and sum(sizes) > self._most_kept_bytes:
            self._kept.popitem(last=False)
            sizes.pop(0)


def _look(workdir: Path) -> _Stamps:
    """The stamps of what is read of a run; NoCheckpoint where it is missing, or no file."""
    stamps = []
    for name in (record.NAME, tokenization.NAME):
        try:
            found = (workdir / name).stat()
        except OSError as error:
            raise NoCheckpoint(f"{workdir / name} is missing ({error.strerror})") from error
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            raise NoCheckpoint(f"{workdir / name} is missing: a plain file is required")
        stamps.append(_Stamp(found.st_ino, found.st_size, found.st_ctime_ns))
    return tuple(stamps)
