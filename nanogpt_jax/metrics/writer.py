"""What receives the measurements of a run, and the fan-out that feeds many of them.

A writer that has no use for texts, events or a config inherits the methods that ignore them.
Nothing here knows a file format; which process writes is the caller's choice (the others get
`Writers()`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol


class Writer(Protocol):
    """A place where metrics go; `step` is the number of updates behind the measured state."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values measured at `step`."""

    def updates(self, step: int, values: Mapping[str, float], evidence: Mapping[str, str]) -> None:
        """Write what updates up to `step` measured, and hashes that prove them, where kept."""
        del evidence
        self.scalars(step, values)

    def event(self, step: int, name: str, facts: Mapping[str, str]) -> None:
        """Write that something happened at `step`, such as a save."""

    def text(self, step: int, name: str, text: str) -> None:
        """Write a text, such as a sample of the model."""

    def config(self, values: Mapping[str, object]) -> None:
        """Write what defines the run, with dotted names; once, before anything else."""

    def close(self) -> None:
        """Finish what was written and release what is held."""


class Writers(Writer):
    """Writes everything to each of `writers`; a context manager that closes them all.

    Each is closed even if another cannot be: the error of the first such writer is raised, with
    the others as its context. An error of the block itself takes precedence over all of them.
    """

    def __init__(self, *writers: Writer):
        self._writers = writers

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for writer in self._writers:
            writer.scalars(step, values)

    def updates(self, step: int, values: Mapping[str, float], evidence: Mapping[str, str]) -> None:
        for writer in self._writers:
            writer.updates(step, values, evidence)

    def event(self, step: int, name: str, facts: Mapping[str, str]) -> None:
        for writer in self._writers:
            writer.event(step, name, facts)

    def text(self, step: int, name: str, text: str) -> None:
        for writer in self._writers:
            writer.text(step, name, text)

    def config(self, values: Mapping[str, object]) -> None:
        for writer in self._writers:
            writer.config(values)

    def close(self) -> None:
        _close_all(self._writers)

    def __enter__(self) -> Writers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        finally:
            if error is not None:
                raise error  # its exit code must not be lost to a file that would not close


def _close_all(writers: Sequence[Writer]) -> None:
    if writers:
        try:
            _close_all(writers[1:])
        finally:
            writers[0].close()
