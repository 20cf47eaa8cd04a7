"""What a run says of its training: losses, rates and speeds, summed between two lines.

Measures of the device are read one step late; nothing here decides where they are written.
"""

from __future__ import annotations

import math
import time

import jax
import numpy as np

from nanogpt_jax import costs
from nanogpt_jax.errors import NonFinite
from nanogpt_jax.experiment import Run
from nanogpt_jax.losses import LossSums, mean_and_error
from nanogpt_jax.metrics import Writer
from nanogpt_jax.step import StepSums


class Report:
    """Training metrics, read one step late so that reading never waits for the device."""

    def __init__(self, writer: Writer, run: Run):
        self._writer = writer
        self._every = run.plan.log.every_steps
        self._tokens_per_step = run.plan.tokens_per_step
        self._flops_per_token = run.flops_per_token
        self._peak = costs.peak_flops(jax.devices())
        self._pending: tuple[int, StepSums] | None = None
        self._read: list[StepSums] = []
        self._seconds: list[float] = []
        self._mark = time.perf_counter()

    def __call__(self, step: int, sums: StepSums) -> None:
        """Takes the sums of the update that made state `step`, and reads the one before."""
        self._read_pending()
        self._pending = step, sums

    def flush(self) -> None:
        """Reads what is pending; the time until the next update does not count."""
        self._read_pending()
        self._mark = math.nan

    def _read_pending(self) -> None:
        if self._pending is None:
            self._mark = time.perf_counter()
            return
        (step, sums), self._pending = self._pending, None
        values = jax.tree.map(float, jax.device_get(sums))
        now = time.perf_counter()
        if not math.isnan(self._mark):
            self._seconds.append(now - self._mark)
        self._mark = now
        if not (math.isfinite(values.loss.nats) and math.isfinite(values.grad_norm)):
            raise NonFinite(
                f"step {step}: loss {values.loss.nats}, gradient norm {values.grad_norm}; go on "
                "from the last checkpoint with a lower learning rate or more clipping"
            )
        self._read.append(values)
        if step % self._every == 0:
            self._write(step)

    def _write(self, step: int) -> None:
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
        if self._seconds:
            seconds, seconds_se = _mean(self._seconds)
            rate = self._tokens_per_step / seconds
            written |= {
                "perf/step_ms": 1e3 * seconds,
                "perf/step_ms_se": 1e3 * seconds_se,
                "perf/tokens_per_sec": rate,
                "perf/tokens_per_sec_se": rate * seconds_se / seconds,  # to first order
            }
            if self._peak is not None:
                written["perf/mfu"] = rate * self._flops_per_token / self._peak
        self._writer.scalars(step, written)
        self._read.clear()
        self._seconds.clear()


def _mean(values: list[float]) -> tuple[float, float]:
    """The mean of independent values, and its standard error."""
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(np.mean(values)), error
