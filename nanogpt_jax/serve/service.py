"""What is served now: a run, opened, and the engine that generates with it.

A request takes `current()` once and keeps it, so that a swap changes nothing under its feet: the
new model is loaded and warm before anybody meets it, and the old one ends what it has begun.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from absl import logging

from nanogpt_jax import checkpoint, experiment, record
from nanogpt_jax.checkpoint import Sidecar
from nanogpt_jax.decoding import Decoding
from nanogpt_jax.errors import NanogptError, NoCheckpoint
from nanogpt_jax.interface import Params
from nanogpt_jax.serve.engine import Engine, NotServing
from nanogpt_jax.serve.library import Library, Models
from nanogpt_jax.serve.shelf import Shelf
from nanogpt_jax.slots import Proposer, Slots

DRAIN_SECONDS = 60.0
# Who has seen the old engine may still ask it: tokenizing lies between.
GRACE_SECONDS = 2.0

Source = Literal["explicit", "latest"]
Drafts = Callable[[experiment.Loaded], Proposer | None]


class Served(NamedTuple):
    """A run and its engine; `checkpoint_sha256` is that of the values of its parameters."""

    workdir: Path
    run: experiment.Loaded
    engine: Engine
    checkpoint_sha256: str


class _Programs(NamedTuple):
    """What is compiled: `of` tells two models apart."""

    of: object
    decoding: Decoding
    proposer: Proposer | None


class Service:
    """Serves one run directory, then perhaps another.

    Runs that are only looked at are on `shelf`: those in the folder `runs`, or else beside it.
    """

    def __init__(
        self,
        workdir: Path,
        step: str = "last",
        *,
        source: Source = "explicit",
        runs: Path | None = None,
        slots: int = 8,
        queue_length: int = 16,
        drafts: Drafts = lambda run: None,
    ):
        self.source: Source = source
        self.started = time.monotonic()
        self.shelf = Shelf(runs or workdir.expanduser().resolve().parent)
        self.library = Library(Models())
        self._slots = slots
        self._queue_length = queue_length
        self._drafts = drafts
        self._programs: _Programs | None = None
        self._swapping = threading.Lock()
        self._ending = threading.Event()
        self._changing = threading.Lock()  # what is served, what was, and whether all ends
        self._retired: list[Engine] = []
        self._served = self._open(workdir, step)

    def current(self) -> Served:
        """What is served at this moment."""
        return self._served

    def checkpoints(self) -> list[Sidecar]:
        """What the run has saved, oldest first."""
        return checkpoint.read_sidecars(self._served.workdir)

    def name_of(self, served: Served) -> str:
        """The name of a run that is, or was, served."""
        return self.shelf.name_of(served.workdir)

    def find(self, name: str) -> Path | None:
        """The directory of a run by its name, that of the served one wherever it lies."""
        served = self._served
        return served.workdir if name == self.name_of(served) else self.shelf.find(name)

    def params_at(self, served: Served, step: int) -> Params:
        """The parameters of another step of a run; NoCheckpoint where it has none."""
        if step == served.run.step:
            return served.run.params
        opened = self.library.open(served.workdir)
        if opened.model is not served.run.model:
            raise NoCheckpoint(f"{served.workdir} holds another run by now")
        return self.library.read(opened, step)

    def replace(self, workdir: Path, step: str = "last") -> None:
        """Serves another checkpoint from the moment at which it is ready.

        Raises what opening raises, or NotServing, and then goes on with what there is.
        """
        with self._swapping:
            opened = self._open(workdir, step)
            while opened.engine.state == "loading" and not self._ending.wait(0.05):
                pass
            try:
                self._swap(opened)
            except NanogptError:
                opened.engine.close(wait_seconds=0)
                raise

    def drain(self, deadline_seconds: float) -> None:
        """Takes in nothing more, and waits at most so long for what any engine has begun.

        Whoever is left then hears `abort`. What is served stays the same from now on.
        """
        deadline = time.monotonic() + deadline_seconds
        with self._changing:
            self._ending.set()
            engines = [self._served.engine, *self._retired]
        for engine in engines:  # they work side by side, whichever is waited for
            engine.drain(max(deadline - time.monotonic(), 0))

    def follow(self, every_seconds: float = 1.0) -> None:
        """Serves every new checkpoint of the run, until the drain: what `--reload` does."""
        passed_over = 0  # newer than what is served, and damaged
        while not self._ending.wait(every_seconds):
            served = self._served
            newest = max(checkpoint.list_steps(served.workdir), default=0)
            if newest <= served.run.step or newest == passed_over:
                passed_over = min(passed_over, newest)  # set aside, it may be saved again
                continue
            try:
                self.replace(served.workdir)
                passed_over = newest if self._served.run.step < newest else 0
                logging.info("serving step %d", self._served.run.step)
            except NanogptError as error:  # as when it is pruned while it is read
                logging.warning("step %d is served on: %s", served.run.step, error)

    def _swap(self, opened: Served) -> None:
        """Serves `opened`, unless it cannot serve or everything is about to end."""
        with self._changing:
            if self._ending.is_set():
                raise NotServing("the server is about to end")
            if opened.engine.state != "ready":
                raise NoCheckpoint(f"step {opened.run.step} made no token; the old one stays")
            before, self._served = self._served, opened
            self._retired.append(before.engine)
        threading.Thread(target=self._retire, args=(before.engine,), daemon=True).start()

    def _retire(self, engine: Engine) -> None:
        time.sleep(GRACE_SECONDS)
        engine.drain(DRAIN_SECONDS)
        engine.close()
        with self._changing:
            self._retired.remove(engine)

    def _open(self, workdir: Path, step: str) -> Served:
        run = experiment.load(workdir, step, self.library.models.build)
        # One model, one set of compiled programs, whatever the parameters.
        same = (id(run.model), run.tokenizer.sha256)
        if self._programs is None or self._programs.of != same:
            decoding = Decoding(run.model, run.shape.max_seq_len)
            self._programs = _Programs(same, decoding, self._drafts(run))
        slots = Slots(self._programs.decoding, run.params, self._slots, self._programs.proposer)
        engine = Engine(slots, queue_length=self._queue_length)
        engine.start()
        return Served(workdir, run, engine, checkpoint.digest_params(run.params))


def find_latest(folder: Path) -> Path:
    """The run in `folder` whose newest usable checkpoint is the newest of all, by its sidecar."""
    found: list[tuple[str, Path]] = []
    for place in sorted(path.parent for path in folder.glob(f"*/{record.NAME}")):
        found += [(each.created, place) for each in checkpoint.read_sidecars(place)[-1:]]
    if not found:
        raise NoCheckpoint(
            f"{folder} holds no run with a usable checkpoint; --latest needs a folder of run "
            "directories"
        )
    return max(found)[1]
