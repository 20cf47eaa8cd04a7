"""`bench race`: the seconds from the start of a process until it has reached a validation loss.

Both sides read the same characters and are judged on the same windows of the same held-out tenth;
how they come there is their own: configs/shakespeare_cpu.py and peers/nanogpt_race.py. The clock
holds imports, compilation and every evaluation. Nothing here knows a model: what a side writes,
lines of JSON with `val/loss` and the monotonic clock, is all that is read.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nanogpt_jax.bench import main_job
from nanogpt_jax.bench.contest import Contestant, Found
from nanogpt_jax.bench.suites import Contest, Measure
from nanogpt_jax.data.corpus import Corpus, Opening
from nanogpt_jax.data.sources import parse_source
from nanogpt_jax.errors import DataError, NanogptError

CONFIG = Path(__file__).parents[2] / "configs" / "shakespeare_cpu.py"
PEER = "nanogpt_jax.bench.peers.nanogpt_race"
# Nats per character: nanoGPT's readme reports it for its recipe.
GOAL = 1.88
# Of nanoGPT's 2000 steps the last leaves it at 1.91 on these windows; every 250 it evaluates.
RECIPE = {"steps": 3000, "every": 250, "compiled": False}
VAL_FRACTION = 0.1
LOOK_SECONDS = 0.02


class Evaluation(NamedTuple):
    """A line about a validation loss; `clock` is the monotonic one, which all processes share."""

    step: int
    loss: float
    clock: float


def contests(torch: bool, data: str) -> list[Contest]:
    """The race on `data`, a source of running text, beside torch where it is asked for."""
    work = {"data": data, "goal": GOAL}
    sides = [Contestant("ours", f"{__name__}:ours", work)]
    if torch:
        sides.append(Contestant("torch", f"{__name__}:nanogpt", {**work, **RECIPE}))
    return [
        Contest(
            f"to a validation loss of {GOAL}",
            "run",
            sides,
            amount=1.0,
            rival="torch",
            target=3.0,
            measures=[Measure("seconds", "s"), Measure("step"), Measure("loss", "nats")],
        )
    ]


def ours(*, data: str, goal: float) -> Callable[[], Found]:
    """A round of the main command, as a user types it, with a seed of its own."""
    if not CONFIG.exists():
        raise NanogptError(f"{CONFIG.name} is not beside the package: run this from a checkout")
    seeds = itertools.count()

    def work() -> Found:
        with _scratch() as folder:
            words = ["nanogpt_jax.main", f"--config={CONFIG}", f"--workdir={folder}"]
            words += [f"--config.data.source={data}", f"--config.seed={next(seeds)}"]
            return reach(goal, words, folder / "metrics.jsonl")

    return work


def nanogpt(*, data: str, goal: float, **recipe: Any) -> Callable[[], Found]:
    """A round of nanoGPT's recipe in torch, with a seed of its own; `recipe` is for the peer."""
    seeds = itertools.count()
    texts = read_parts(data)

    def work() -> Found:
        with _scratch() as folder:
            files = {name: folder / f"{name}.txt" for name in texts}
            for name, text in texts.items():
                files[name].write_bytes(text.encode())
            metrics = folder / "metrics.jsonl"
            places = {name: str(file) for name, file in files.items()} | {"metrics": str(metrics)}
            words = [PEER, json.dumps({**places, **recipe, "seed": next(seeds)})]
            return reach(goal, words, metrics)

    return work


def read_parts(source: str) -> dict[str, str]:
    """What is trained on, and what is held out, of a running text."""
    corpus = parse_source(source)(Opening())
    if not (isinstance(corpus, Corpus) and corpus.running):
        raise DataError(f"--data={source} is no running text; shakespeare or text:FILE is required")
    parts = corpus.read(VAL_FRACTION)
    return {name: "".join(getattr(parts, name).texts) for name in ("train", "val")}


def reach(goal: float, words: Sequence[str], metrics: Path) -> Found:
    """Starts `python -m WORDS`; ends it at the first loss in `metrics` that is at most `goal`.

    NanogptError with its lowest loss and the end of its log, where it ends before.
    """
    variables = {name: os.environ[name] for name in os.environ.keys() - main_job.UNUSUAL}
    start = time.monotonic()
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=variables | {"TORCHINDUCTOR_CACHE_DIR": str(metrics.parent / "inductor")},
        ) as process,
    ):
        try:
            ended = False
            while not ended:
                ended = process.poll() is not None  # first: what it wrote last counts too
                for step, loss, clock in read_evaluations(metrics):
                    if loss <= goal:
                        return {"seconds": clock - start, "step": step, "loss": loss}
                time.sleep(LOOK_SECONDS)
        finally:
            process.kill()
        log.seek(0)
        lowest = min((each.loss for each in read_evaluations(metrics)), default=float("inf"))
        raise NanogptError(
            f"{words[0]} ended with a lowest validation loss of {lowest:.4f}; {goal:g} is "
            f"required: {log.read()[-2000:].strip()}"
        )


def read_evaluations(metrics: Path) -> Iterator[Evaluation]:
    """The validation losses that a run has written so far, oldest first."""
    with contextlib.suppress(FileNotFoundError), metrics.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n") and "val/loss" in (found := json.loads(line)):
                yield Evaluation(found["step"], float(found["val/loss"]), found["t_monotonic"])


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one run; who still writes into it as it goes away does no harm."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)
