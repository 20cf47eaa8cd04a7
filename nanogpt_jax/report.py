"""What a run says of its training: losses, rates and speeds, summed between two lines.

Measures of the device are read one step late; nothing here decides where they are written.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from nanogpt_jax import costs, telemetry
from nanogpt_jax.errors import NonFinite
from nanogpt_jax.experiment import Run
from nanogpt_jax.losses import LossSums, mean_and_error
from nanogpt_jax.metrics import Writer, chain
from nanogpt_jax.step import StepSums, name_leaf


class Report:
    """Training metrics, read one step late so that reading never waits for the device."""

    def __init__(self, writer: Writer, run: Run):
        self._writer = writer
        self._every = run.plan.log.every_steps
        self._tokens_per_step = run.plan.tokens_per_step
        self._flops_per_token = run.flops_per_token
        self._peak_flops = costs.peak_flops(run.layout.devices)
        self._recipe = run.recipe
        self._most_skipped = run.plan.train.max_skipped if run.recipe.skip_nonfinite else 0
        self._skipped = 0  # since the last line
        self._skipped_in_a_row = 0
        self._step = 0  # the last that was read
        self._pending: tuple[int, StepSums, str] | None = None
        self._read: list[Any] = []  # StepSums of floats
        self._last: Any = None  # StepSums of the last update, whether it counts or not
        self._batch_sha256 = ""  # of its batch
        self._batches_sha256 = ""  # of the batches since the last line
        self._seconds: list[float] = []
        self._mark: float | None = None

    def __call__(self, step: int, sums: StepSums, batch_sha256: str = "") -> None:
        """Takes the sums of the update that made state `step`, and reads the one before."""
        self._read_pending(timed=True)
        self._pending = step, sums, batch_sha256

    def flush(self) -> None:
        """Reads what is pending; the time from here to the next update does not count."""
        # Nor does the time since the last call: where dispatch waits, that update was over by then.
        self._read_pending(timed=False)
        self._mark = None

    def close(self) -> None:
        """Writes what the run's last updates have left."""
        self.flush()
        if self._read or self._skipped:
            self._write(self._step)

    @contextlib.contextmanager
    def naming_batch(self) -> Iterator[None]:
        """Adds to an error about the state the batch of the update that made it."""
        try:
            yield
        except NonFinite as error:
            raise NonFinite(f"{error}{self._of_batch()}") from error

    def _of_batch(self) -> str:
        return f"; its batch is {self._batch_sha256}" if self._batch_sha256 else ""

    def _read_pending(self, timed: bool) -> None:
        """Reads the sums that are waiting; from call to call, that is the time of one update."""
        pending, self._pending = self._pending, None
        fetched: Any = None if pending is None else jax.device_get(pending[1])
        now = time.perf_counter()
        if timed and self._mark is not None:
            self._seconds.append(now - self._mark)
        self._mark = now
        if pending is None:
            return
        self._step = step = pending[0]
        self._last = values = jax.tree.map(float, fetched._replace(layers=None))
        self._batch_sha256 = pending[2]
        self._batches_sha256 = chain.fold(self._batches_sha256, pending[2])
        if math.isfinite(values.loss.nats) and math.isfinite(values.grad_norm):
            self._skipped_in_a_row = 0
            self._read.append(values)
        else:
            self._skip(step, values)
        if fetched.layers is not None:
            self._writer.scalars(step, telemetry.named(fetched.layers))
        if step % self._every == 0:
            self._write(step)

    def _skip(self, step: int, values: Any) -> None:
        """Counts an update that the step has left out, or raises NonFinite if it may not."""
        if self._skipped_in_a_row >= self._most_skipped:
            before = f" after {self._most_skipped} skipped" if self._most_skipped else ""
            bad_leaf = -1 if values.bad_leaf is None else int(values.bad_leaf)
            leaf = f" from {name_leaf(self._recipe, bad_leaf)} on" if bad_leaf >= 0 else ""
            raise NonFinite(
                f"step {step}{before}: loss {values.loss.nats}, gradient norm {values.grad_norm}"
                f"{leaf}{self._of_batch()}; go on from the newest checkpoint with a lower learning "
                "rate, more clipping or train.on_nonfinite=skip"
            )
        self._skipped += 1
        self._skipped_in_a_row += 1

    def _write(self, step: int) -> None:
        written = self._means() if self._read else {}
        if self._most_skipped:
            written["train/skipped"] = float(self._skipped)
        evidence = {
            "loss_hex": chain.bits_of(self._last.loss.nats, self._last.loss.tokens),
            "batch_sha256": self._batches_sha256,
        }
        self._writer.updates(step, written, evidence)
        self._batches_sha256 = ""
        self._skipped = 0
        self._read.clear()
        self._seconds.clear()

    def _means(self) -> dict[str, float]:
        """What the updates since the last line have measured, each mean with its error."""
        loss, loss_se = mean_and_error(
            LossSums(*np.sum([values.loss for values in self._read], axis=0))
        )
        norm, norm_se = _mean([values.grad_norm for values in self._read])
        written = {
            "train/loss": loss,
            "train/loss_se": loss_se,
            "train/grad_norm": norm,
            "train/grad_norm_se": norm_se,
            "train/lr": self._read[-1].learning_rate,
        }
        for name in self._read[-1].auxiliary:
            means = [values.auxiliary[name] for values in self._read]
            mean, error = _mean([each.total / (each.count or 1.0) for each in means])
            written |= {f"train/{name}": mean, f"train/{name}_se": error}
        if self._seconds:
            seconds, seconds_se = _mean(self._seconds)
            rate = self._tokens_per_step / seconds
            relative = seconds_se / seconds  # also that of what is divided by the time, nearly
            written |= {
                "perf/step_ms": 1e3 * seconds,
                "perf/step_ms_se": 1e3 * seconds_se,
                "perf/tokens_per_sec": rate,
                "perf/tokens_per_sec_se": rate * relative,
            }
            if self._peak_flops is not None:
                mfu = rate * self._flops_per_token / self._peak_flops
                written |= {"perf/mfu": mfu, "perf/mfu_se": mfu * relative}
        return written


def _mean(values: list[float]) -> tuple[float, float]:
    """The mean of independent values, and its standard error."""
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(np.mean(values)), error
