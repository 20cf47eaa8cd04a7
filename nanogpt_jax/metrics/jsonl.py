"""The record of a run: one line of JSON for each set of measurements, chained; and its readers.

A line holds `step`, the wall clock `time` (RFC 3339, UTC), the clock `t_monotonic` in seconds and
the scalars, exact to the last bit; a value that is not finite is the string "NaN", "Infinity" or
"-Infinity". Lines of training have the evidence of their updates: `loss_hex`, the bits of the last
loss, and `batch_sha256`, of the batches since the line before. Every line ends with `line`, its
number, and `sha256`, which holds it to the line before (chain.py).

The file only grows: a run that goes on from step N appends `{"event": "resume", "step": N, ...}`,
and what stands above that line about steps after N is history that its state does not have. With a
saved state comes `{"event": "save", "step": N, "params_sha256": ...}`. Texts and the config are
kept elsewhere.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import math
import mmap
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nanogpt_jax.errors import NanogptError
from nanogpt_jax.metrics import chain
from nanogpt_jax.metrics.writer import Writer

NAME = "metrics.jsonl"
_NOT_SCALARS = frozenset(
    ("step", "time", "t_monotonic", "loss_hex", "batch_sha256", "line", "sha256")
)
_LOSS_HEX = re.compile(r"-?(0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|inf|nan)")


class JsonLines(Writer):
    """Appends to the file at `path`, each line at once and whole; NanogptError where it cannot.

    A last line that a crash tore is cut off. A file that already has lines, or a start after step
    0, begins with a resume line. A file whose last line is not chained is refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        start_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ):
        self._path, self._clock, self._wall_clock = path, clock, wall_clock
        with contextlib.ExitStack() as opened:
            # Unbuffered: a line that does not fit must not come back when the file is closed.
            self._file = opened.enter_context(open(path, "ab", buffering=0))
            with open(path, "rb+") as file:
                last, self._end = _last_line(file)
                if self._end < path.stat().st_size:
                    file.truncate(self._end)
            self._before = _link_of(path, last)
            if start_step or last:
                self._append({"event": "resume", "step": start_step}, {})
            opened.pop_all()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._append({"step": step}, _encode(values))

    def updates(self, step: int, values: Mapping[str, float], evidence: Mapping[str, str]) -> None:
        self._append({"step": step}, {**_encode(values), **evidence})

    def event(self, step: int, name: str, facts: Mapping[str, str]) -> None:
        self._append({"event": name, "step": step}, facts)
        # A checkpoint is about to name this line: the line must not be lost before it is.
        with self._explained():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _append(self, head: Mapping[str, object], values: Mapping[str, object]) -> None:
        utc = datetime.datetime.fromtimestamp(self._wall_clock(), datetime.UTC)
        clocks = {
            "time": utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "t_monotonic": round(self._clock(), 6),
        }
        line, link = chain.seal({**head, **clocks, **values}, self._before)
        with self._explained():
            rest = memoryview(line)
            while rest:  # of a line that does not fit, the system writes a part
                rest = rest[self._file.write(rest) :]
        self._end += len(line)
        self._before = link

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):  # then the next start cuts what is torn
                self._file.truncate(self._end)
            code = errno.errorcode.get(error.errno or 0, "?")
            raise NanogptError(
                f"{self._path} cannot be written ({code}: {error.strerror}): the lines before are "
                "whole; remove the cause, and start again from the last checkpoint"
            ) from error


class Log(NamedTuple):
    """The lines of a log as JSON objects, each held to the one before it."""

    records: list[dict[str, Any]]
    torn_bytes: int  # of a last line without its end


def read_log(path: Path) -> Log:
    """Every line, verified; NanogptError naming the first that was tampered with."""
    try:
        with open(path, "rb") as file:
            lines = list(file)
    except FileNotFoundError as error:
        raise NanogptError(
            f"{path.parent} has no {path.name}, the log of a run: name a run directory"
        ) from error
    torn = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
    try:
        records = chain.verify(lines)
        for number, line in enumerate(records, start=1):
            if not _is_plausible(line):
                raise chain.Broken(number, "is sealed, but no line that a run writes")
        return Log(records, len(torn))
    except chain.Broken as error:
        raise NanogptError(
            f"{path}, {error}; the log as the run wrote it is required: restore it from a copy"
        ) from error


def _is_plausible(line: Mapping[str, Any]) -> bool:
    """Whether what others rely on in a line is there and of its type."""
    texts = {"event", "loss_hex", "batch_sha256", "params_sha256"} & line.keys()
    if type(line.get("step")) is not int or any(type(line[name]) is not str for name in texts):
        return False
    if line.get("event") == "save" and "params_sha256" not in line:
        return False
    if "loss_hex" in line:
        return "batch_sha256" in line and _LOSS_HEX.fullmatch(line["loss_hex"]) is not None
    return True


def read_head(path: Path) -> str:
    """The hash of the last whole line, unverified and without reading others; "" without any."""
    try:
        with open(path, "rb") as file:
            return _link_of(path, _last_line(file)[0]).sha256
    except FileNotFoundError:
        return ""


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """The scalars of each step, by name, in the order of the steps.

    Lines of one step are merged, the last value of a name wins, and a resume line drops the steps
    after it. A last line without its end is left out, so the file of a live run can be read; hashes
    are not checked. Raises NanogptError for any other line that is not one of ours.
    """
    steps: dict[int, dict[str, float]] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
                step = record["step"]
                if (event := record.get("event")) == "resume":
                    steps = {known: values for known, values in steps.items() if known <= step}
                elif event is None:
                    steps.setdefault(step, {}).update(scalars_of(record))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise NanogptError(
                    f"{path}, line {number} is not a line of metrics ({error}); a JSON object "
                    "with a step and numbers is required: remove the line"
                ) from error
    return dict(sorted(steps.items()))


def scalars_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The scalars of a line that is no event; ValueError or TypeError where one is no number."""
    return {name: float(value) for name, value in record.items() if name not in _NOT_SCALARS}


def _encode(values: Mapping[str, float]) -> dict[str, float | str]:
    """`values` in a form that every reader of JSON understands and `float` reads back."""
    numbers = {name: float(value) for name, value in values.items()}
    return {
        name: value if math.isfinite(value) else json.dumps(value)
        for name, value in numbers.items()
    }


def _last_line(file: BinaryIO) -> tuple[bytes, int]:
    """The last whole line, and where it ends; the pages before it are not read."""
    if not os.fstat(file.fileno()).st_size:
        return b"", 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        end = view.rfind(b"\n") + 1
        return view[view.rfind(b"\n", 0, max(end - 1, 0)) + 1 : end], end


def _link_of(path: Path, last: bytes) -> chain.Link:
    link = chain.link_of(last) if last else chain.START
    if link is None:
        raise NanogptError(
            f"{path} ends with a line without its hash, which no run can go on from; a log of "
            "chained lines is required: move the file out of the directory, or use --fresh"
        )
    return link
