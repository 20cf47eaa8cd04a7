"""What a user sees while a model trains: a bar on a terminal, plain log lines elsewhere.

Everything goes to stderr; stdout belongs to the results of commands. `log_to_file` keeps the log
lines of a run in its directory, those that the bar stands for on a terminal included.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging as absl_logging

from nanogpt_jax.metrics.writer import Writer

if TYPE_CHECKING:
    import rich.console

_ON_BAR = "on_bar"  # marks the log records that the bar stands for


class Console(Writer):
    """Logs a line for each training report and each evaluation; on a terminal, moves a bar.

    The time left is that of the work left at the pace since the first report, so compilation does
    not count and evaluations do. `fraction` gives the work done, in [0, 1], of a run that does not
    end at `total_steps`.
    """

    def __init__(
        self,
        *,
        total_steps: int | None,
        start_step: int = 0,
        fraction: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        terminal: rich.console.Console | None = None,
    ):
        self._total_steps = total_steps
        self._fraction = fraction
        self._clock = clock
        self._first: tuple[float, float] | None = None
        self._bar = _Bar.on(terminal)
        if self._bar is not None:
            self._bar.show(self._count(start_step), self._done(start_step), "waiting for a step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if "train/loss" in values:
            self._report(step, values)
        measured = [_with_error(name, values) for name in values if _is_measured(name)]
        if measured:
            absl_logging.info("step=%d %s", step, " ".join(measured))

    def text(self, step: int, name: str, text: str) -> None:
        # repr: what an untrained model writes could otherwise drive the terminal.
        absl_logging.info("step=%d %s=%r", step, name, text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _report(self, step: int, values: Mapping[str, float]) -> None:
        done = self._done(step)
        loss = f"{values['train/loss']:.4f}"
        rate = _show(values, "train/lr", "{:.1e}".format)
        speed = _show(values, "perf/tokens_per_sec", _thousands)
        mfu = _show(values, "perf/mfu", "{:.1%}".format)
        left = self._time_left(done)
        absl_logging.info(
            f"step={self._count(step)} loss={loss} lr={rate} tok/s={speed} mfu={mfu} eta={left}",
            extra={_ON_BAR: True},
        )
        if self._bar is not None:
            status = f"loss {loss}  {speed} tok/s  eta {left}"
            self._bar.show(self._count(step), done, status)

    def _count(self, step: int) -> str:
        return f"{step}" if self._total_steps is None else f"{step}/{self._total_steps}"

    def _done(self, step: int) -> float:
        if self._fraction is not None:
            return min(1.0, self._fraction())
        return step / self._total_steps if self._total_steps else 0.0

    def _time_left(self, done: float) -> str:
        now = self._clock()
        if self._first is None:
            self._first = (now, done)
        began, done_before = self._first
        if done <= done_before:
            return "n/a"
        return _duration((1 - done) * (now - began) / (done - done_before))


class _Bar:
    """The bar, and the way of the log lines around it.

    Only `show` draws: no thread takes time from the training, or dies half way through a line.
    """

    def __init__(self, terminal: rich.console.Console):
        from rich import progress

        self._progress = progress.Progress(
            progress.TextColumn("step {task.description}"),
            progress.BarColumn(bar_width=None),
            progress.TextColumn("{task.fields[status]}"),
            console=terminal,
            auto_refresh=False,
            redirect_stdout=False,
            expand=True,
        )
        self._task = self._progress.add_task("", total=1.0, status="")
        self._progress.start()
        terminal.show_cursor(True)  # hidden, it would stay so after a kill
        # The handler holds the stderr of before, where a line would run into the bar.
        self._handler = absl_logging.get_absl_handler()
        self._stream = self._handler.python_handler.setStream(sys.stderr)
        self._handler.addFilter(_is_off_bar)

    @classmethod
    def on(cls, terminal: rich.console.Console | None) -> _Bar | None:
        """A bar if stderr, or what stands in for it, is a terminal that can move a cursor."""
        if terminal is None:
            if not sys.stderr.isatty():  # rich believes FORCE_COLOR instead, also in a batch job
                return None
            from rich.console import Console as RichConsole

            terminal = RichConsole(stderr=True)
        return cls(terminal) if terminal.is_interactive else None

    def show(self, count: str, done: float, status: str) -> None:
        self._progress.update(
            self._task, description=count, completed=done, status=status, refresh=True
        )

    def close(self) -> None:
        self._handler.removeFilter(_is_off_bar)
        self._progress.stop()
        if self._stream is not None:
            self._handler.python_handler.setStream(self._stream)


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append every log line to the file at `path` as well, in the form that stderr shows."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(absl_logging.PythonFormatter())
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _is_off_bar(record: logging.LogRecord) -> bool:
    return not hasattr(record, _ON_BAR)


def _is_measured(name: str) -> bool:
    return name.startswith("val/") and not name.endswith("_se")


def _with_error(name: str, values: Mapping[str, float]) -> str:
    error = values.get(f"{name}_se")
    return f"{name}={values[name]:.4f}" + ("" if error is None else f" ± {error:.4f}")


def _show(values: Mapping[str, float], name: str, form: Callable[[float], str]) -> str:
    return form(values[name]) if name in values else "n/a"


def _thousands(value: float) -> str:
    """Three to four digits and a unit: 812, 41.2k, 1.3M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def _duration(seconds: float) -> str:
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{whole_seconds:02d}"
