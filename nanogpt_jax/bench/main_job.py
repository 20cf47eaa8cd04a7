"""The main job, configs/minigpt.py, as the process that a user starts: its start and its memory.

Each round is a fresh interpreter in a fresh run directory. Byte code and the tokenized corpus are
in their caches after the round that is not counted, as they are for whoever trains twice.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from nanogpt_jax.errors import NanogptError

CONFIG = Path(__file__).parents[2] / "configs" / "minigpt.py"
SAMPLING_SECONDS = 0.05
# What starts otherwise than a user does: without byte code, or with programs compiled before.
UNUSUAL = {"PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR", "NANOGPT_KEEP_PROGRAMS"}
GIB = 2**30
# The functions of step.py and evaluation.py that a run compiles.
COMPILED = {"train_programs": "train_step", "eval_programs": "sums"}


def first_step() -> Callable[[], Mapping[str, Any]]:
    """A round is a start, and its `seconds` end when the first update is told."""

    def work() -> Mapping[str, Any]:
        start = time.perf_counter()
        with _started("--config.log.every_steps=1", stderr=subprocess.PIPE) as process:
            assert process.stderr
            told = []
            for line in process.stderr:
                if re.search(r"\bstep=1/", line):
                    return {"seconds": time.perf_counter() - start}
                told.append(line)
        raise _early(told)

    return work


def whole_run(*, steps: int, words: tuple[str, ...] = ()) -> Callable[[], Mapping[str, Any]]:
    """A round is a run of so many updates, evaluated before, half way and after them.

    Tells `peak_gib`, the most memory that was resident, and how many programs were compiled for
    updates and for evaluation.
    """
    flags = (f"--config.train.steps={steps}", f"--config.eval.every_steps={steps // 2}", *words)

    def work() -> Mapping[str, Any]:
        peak_bytes = 0
        with (
            tempfile.TemporaryFile("w+", errors="replace") as log,
            _started(*flags, stderr=log, tells_compiles=True) as process,
        ):
            while process.poll() is None:
                peak_bytes = max(peak_bytes, _peak_bytes(process.pid))
                time.sleep(SAMPLING_SECONDS)
            log.seek(0)
            lines = log.readlines()
        if process.returncode:
            raise _early(lines)
        programs = compiled("".join(lines))
        if missing := COMPILED.values() - programs.keys():
            raise NanogptError(f"jax tells of no program {missing}; name here what is compiled now")
        counts = {measure: programs[name] for measure, name in COMPILED.items()}
        return {"peak_gib": peak_bytes / GIB, **counts}

    return work


def compiled(log: str) -> Counter[str]:
    """How often programs of each name were compiled, by what JAX_LOG_COMPILES makes jax tell."""
    return Counter(re.findall(r"Finished XLA compilation of jit\((\w+)\)", log))


@contextlib.contextmanager
def _started(
    *words: str, stderr: int | IO[str], tells_compiles: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """The job under way; it ends with the block, whatever it was doing."""
    if not CONFIG.exists():
        raise NanogptError(f"{CONFIG.name} is not beside the package: run this from a checkout")
    variables = {name: os.environ[name] for name in os.environ.keys() - UNUSUAL}
    with (
        tempfile.TemporaryDirectory() as workdir,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "nanogpt_jax.main"),
                *(f"--config={CONFIG}", f"--workdir={workdir}", *words),
            ],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            errors="replace",
            env=variables | {"JAX_LOG_COMPILES": "1" if tells_compiles else "0"},
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
            process.wait()  # before its directory goes


def _early(lines: list[str]) -> NanogptError:
    return NanogptError(f"the main job ended early: {''.join(lines)[-2000:].strip()}")


def _peak_bytes(pid: int) -> int:
    """The most memory that a process ever had resident; 0 where it has ended, or off Linux."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
