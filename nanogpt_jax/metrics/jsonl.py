"""The record of a run: one line of JSON for each set of measurements, and its reader.

A line holds `step`, the wall clock `time` (RFC 3339, UTC), the clock `t_monotonic` in seconds and
the scalars, exact to the last bit; a value that is not finite is the string "NaN", "Infinity" or
"-Infinity". The file only grows: a run that goes on from step N appends
`{"event": "resume", "step": N, ...}`, and what stands above that line about steps after N is
history that its state does not have. Texts and the config are kept elsewhere.
"""

from __future__ import annotations

import datetime
import json
import math
import mmap
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nanogpt_jax.errors import NanogptError
from nanogpt_jax.metrics.writer import Writer

_NOT_SCALARS = ("step", "time", "t_monotonic")


class JsonLines(Writer):
    """Appends to the file at `path`, each line at once and whole.

    A last line that a crash tore is cut off. A file that already has lines, or a start after step
    0, begins with a resume line.
    """

    def __init__(
        self,
        path: Path,
        *,
        start_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ):
        self._clock, self._wall_clock = clock, wall_clock
        self._file = open(path, "ab")
        _cut_torn_line(path)
        if start_step or path.stat().st_size:
            self._append({"event": "resume", "step": start_step}, {})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._append({"step": step}, {name: _encode(value) for name, value in values.items()})

    def close(self) -> None:
        self._file.close()

    def _append(self, head: Mapping[str, object], values: Mapping[str, object]) -> None:
        utc = datetime.datetime.fromtimestamp(self._wall_clock(), datetime.UTC)
        clocks = {
            "time": utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "t_monotonic": round(self._clock(), 6),
        }
        line = json.dumps({**head, **clocks, **values}, allow_nan=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """The scalars of each step, by name, in the order of the steps.

    Lines of one step are merged, the last value of a name wins, and a resume line drops the steps
    after it. A last line without its end is left out, so the file of a live run can be read.
    Raises NanogptError for any other line that is not one of ours.
    """
    steps: dict[int, dict[str, float]] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
                step = record["step"]
                if record.get("event") == "resume":
                    steps = {known: values for known, values in steps.items() if known <= step}
                else:
                    values = {
                        name: float(value)
                        for name, value in record.items()
                        if name not in _NOT_SCALARS
                    }
                    steps.setdefault(step, {}).update(values)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise NanogptError(
                    f"{path}, line {number} is not a line of metrics ({error}); a JSON object "
                    "with a step and numbers is required: remove the line"
                ) from error
    return dict(sorted(steps.items()))


def _encode(value: float) -> float | str:
    """`value` in a form that every reader of JSON understands and `float` reads back."""
    value = float(value)
    return value if math.isfinite(value) else json.dumps(value)


def _cut_torn_line(path: Path) -> None:
    with open(path, "rb+") as file:
        if path.stat().st_size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                end = view.rfind(b"\n") + 1
            file.truncate(end)
