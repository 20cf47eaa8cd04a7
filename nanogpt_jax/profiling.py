"""A trace of some training steps, in the files that xprof (TensorBoard) and Perfetto open.

It reads no trace: docs/profiling.md says how to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

import jax
from absl import logging

from nanogpt_jax.config import Profile


class Trace:
    """Records the updates that a config asks for, while the `with` block lasts.

    They are named as metrics name them: update N makes state N.
    """

    def __init__(self, asked: Profile, folder: Path):
        self._first, self._last = asked.start, asked.start + asked.steps - 1
        self._folder = folder
        self._running = False
        self._missing = asked.steps > 0

    def over(self, states: Iterable[int], wait: Callable[[], object]) -> Iterable[int]:
        """`states`, each the one that an update starts from; without anything to trace, itself.

        `wait` returns when the last update asked of the device is done, so that the trace has it.
        """
        return self._over(states, wait) if self._missing else states

    def _over(self, states: Iterable[int], wait: Callable[[], object]) -> Iterator[int]:
        for state in states:
            update = state + 1
            if update == self._first:
                wait()  # what came before is no part of it
                self._start()
            if not self._running:
                yield state
                continue
            with jax.profiler.StepTraceAnnotation("train", step_num=update):
                yield state
            if update == self._last:
                wait()
                self._stop()

    def _start(self) -> None:
        jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
        self._running, self._missing = True, False

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
        logging.info(
            "the trace of the updates from %d on is in %s: `tensorboard --logdir` that folder, or "
            "open its perfetto_trace.json.gz at ui.perfetto.dev",
            self._first,
            self._folder.name,
        )

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running:
            self._stop()
        elif self._missing and error is None:
            logging.warning(
                "nothing was traced: profile.start=%d is no update of this start; choose one that "
                "it still has to do",
                self._first,
            )
