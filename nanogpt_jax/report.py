"""What a run says of its training: losses, rates and speeds, summed between two lines.

Measures of the device are read one step late; nothing here decides where they are written.
"""

from __future__ import annotations

import math
import time
from typing import Any

import jax
import numpy as np

from nanogpt_jax import costs, telemetry
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
        self._peak_flops = costs.peak_flops(run.layout.devices)
        self._step = 0  # the last that was read
        self._pending: tuple[int, StepSums] | None = None
        self._read: list[Any] = []  # StepSums of floats
        self._seconds: list[float] = []
        self._mark: float | None = None

    def __call__(self, step: int, sums: StepSums) -> None:
        """Takes the sums of the update that made state `step`, and reads the one before."""
        self._read_pending(timed=True)
        self._pending = step, sums

    def flush(self) -> None:
        """Reads what is pending; the time from here to the next update does not count."""
        # Nor does the time since the last call: where dispatch waits, that update was over by then.
        self._read_pending(timed=False)
        self._mark = None

    def close(self) -> None:
        """Writes what the run's last updates have left."""
        self.flush()
        if self._read:
            self._write(self._step)

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
        values = jax.tree.map(float, fetched._replace(layers=None))
        if not (math.isfinite(values.loss.nats) and math.isfinite(values.grad_norm)):
            raise NonFinite(
                f"step {step}: loss {values.loss.nats}, gradient norm {values.grad_norm}; go on "
                "from the last checkpoint with a lower learning rate or more clipping"
            )
        if fetched.layers is not None:
            self._writer.scalars(step, telemetry.named(fetched.layers))
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
        self._writer.scalars(step, written)
        self._read.clear()
        self._seconds.clear()


def _mean(values: list[float]) -> tuple[float, float]:
    """The mean of independent values, and its standard error."""
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(np.mean(values)), error
