"""Where the measurements of a run go.

| name | meaning |
|---|---|
| train/loss, train/grad_norm, train/lr | of the updates since the last report |
| train/expert_balance | of a mixture of experts: 1 when all are used alike (models/moe.py) |
| val/loss, val/perplexity, val/bits_per_byte, val/excess_nats | of an evaluation |
| perf/tokens_per_sec, perf/step_ms | of the time since the last report |
| layers/NN/..., ends/... | of single layers: docs/profiling.md |
| perf/mfu | fraction of the peak of the device; absent where the peak is unknown |

Losses are in nats per token. The standard error of a mean has the name of the mean and `_se`.
Nothing here measures anything, and nothing heavy is imported before the first write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from nanogpt_jax.metrics import jsonl
from nanogpt_jax.metrics.console import Console, log_to_file
from nanogpt_jax.metrics.jsonl import JsonLines, read_head, read_log, read_metrics
from nanogpt_jax.metrics.tensorboard import TensorBoard
from nanogpt_jax.metrics.tracker import TrackerKind, open_tracker
from nanogpt_jax.metrics.writer import Writer, Writers

__all__ = [
    "Console",
    "JsonLines",
    "TensorBoard",
    "TrackerKind",
    "Writer",
    "Writers",
    "log_to_file",
    "open_tracker",
    "open_writers",
    "read_head",
    "read_log",
    "read_metrics",
]


def open_writers(
    directory: Path,
    *,
    start_step: int,
    total_steps: int | None,
    tracker: TrackerKind = "none",
    fraction: Callable[[], float] | None = None,
    console: bool = True,
) -> Writers:
    """Everything that the run in `directory`, at state `start_step`, writes its metrics to.

    `total_steps` and `fraction` are those of `Console`, which one among many runs goes without.
    """
    with contextlib.ExitStack() as opened:

        def keep(writer: Writer) -> Writer:
            opened.callback(writer.close)
            return writer

        writers = [
            keep(JsonLines(directory / jsonl.NAME, start_step=start_step)),
            keep(TensorBoard(directory / "tensorboard", purge_step=start_step + 1)),
        ]
        if tracker != "none":
            writers.append(keep(open_tracker(tracker, directory)))
        if console:
            writers.append(
                keep(Console(total_steps=total_steps, start_step=start_step, fraction=fraction))
            )
        opened.pop_all()
        return Writers(*writers)
