"""What a run says of its training: when it reads, what it averages, which time it counts."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import report
from nanogpt_jax.errors import NonFinite
from nanogpt_jax.interface import Mean
from nanogpt_jax.losses import LossSums
from nanogpt_jax.metrics import Writer
from nanogpt_jax.report import Report
from nanogpt_jax.step import StepSums


class Lines(Writer):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: dict[int, dict[str, float]] = {}

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        assert step not in self.written
        self.written[step] = dict(values)


class Clock:
    """A clock that hardly moves by itself."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def perf_counter(self) -> float:
        self.seconds += 1e-9
        return self.seconds


class OnDevice:
    """A number on a device, which notes that it was fetched."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.fetched = False

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        del copy
        self.fetched = True
        return np.asarray(self.value, dtype)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(report, "time", clock)
    return clock


def run(every_steps: int = 1, device_kind: str = "cpu", devices: int = 1) -> Any:
    return SimpleNamespace(
        plan=SimpleNamespace(log=SimpleNamespace(every_steps=every_steps), tokens_per_step=1000),
        recipe=SimpleNamespace(skip_nonfinite=False),
        flops_per_token=2e9,
        layout=SimpleNamespace(devices=[SimpleNamespace(device_kind=device_kind)] * devices),
    )


def sums(nats: float = 10.0, tokens: float = 5.0, norm: float = 1.0, rate: float = 0.1) -> Any:
    numbers: Any = (nats, tokens, nats**2, nats * tokens, tokens**2, norm, rate)
    *loss, norm_there, rate_there = jax.tree.map(OnDevice, numbers)
    return StepSums(LossSums(*loss), norm_there, rate_there)


def fetched(sums: Any) -> bool:
    leaves = jax.tree.leaves(sums)
    assert len({leaf.fetched for leaf in leaves}) == 1
    return leaves[0].fetched


def test_an_update_is_read_when_the_next_one_is_reported(clock: Clock) -> None:
    lines = Lines()
    reporting = Report(lines, run())
    first, second = sums(nats=10.0), sums(nats=20.0)
    reporting(1, first)
    assert not fetched(first) and not lines.written
    reporting(2, second)
    assert fetched(first) and not fetched(second)
    assert list(lines.written) == [1]
    assert lines.written[1]["train/loss"] == 2.0


def test_flush_reads_the_update_that_is_pending_once(clock: Clock) -> None:
    lines = Lines()
    reporting = Report(lines, run())
    reporting.flush()
    assert not lines.written
    reporting(1, sums())
    reporting.flush()
    reporting.flush()
    assert list(lines.written) == [1]


def test_a_line_holds_means_and_standard_errors_since_the_line_before(clock: Clock) -> None:
    lines = Lines()
    reporting = Report(lines, run(every_steps=2))
    rows = [(10.0, 5.0), (30.0, 10.0), (8.0, 8.0), (9.0, 3.0)]
    for step, (nats, tokens) in enumerate(rows, start=1):
        reporting(step, sums(nats, tokens, norm=float(step), rate=0.1 * step))
    reporting.flush()
    assert list(lines.written) == [2, 4]
    first, second = lines.written[2], lines.written[4]
    assert first["train/loss"] == pytest.approx(40 / 15)
    residuals = [nats - 40 / 15 * tokens for nats, tokens in rows[:2]]
    assert first["train/loss_se"] == pytest.approx(np.linalg.norm(residuals) / 15)
    assert second["train/loss"] == pytest.approx(17 / 11)
    assert second["train/grad_norm"] == pytest.approx(3.5)
    assert second["train/grad_norm_se"] == pytest.approx(0.5)  # sqrt(1/2) / sqrt(2)
    assert second["train/lr"] == pytest.approx(0.4)


def test_a_further_loss_of_the_model_is_a_metric_of_its_own(clock: Clock) -> None:
    lines = Lines()
    reporting = Report(lines, run(every_steps=2))
    for step, total in enumerate((6.0, 10.0), start=1):
        reporting(
            step, sums()._replace(auxiliary={"balance": Mean(jnp.array(total), jnp.array(5.0))})
        )
    reporting.flush()
    assert lines.written[2]["train/balance"] == pytest.approx(1.6)  # of 1.2 and 2.0
    assert lines.written[2]["train/balance_se"] == pytest.approx(0.4)
    assert lines.written[2]["train/loss"] == 2.0  # which it is no part of


@pytest.mark.parametrize("bad", [{"nats": np.nan}, {"nats": np.inf}, {"norm": np.nan}])
def test_a_number_that_is_not_finite_ends_the_run_and_names_the_step(
    clock: Clock, bad: dict[str, float]
) -> None:
    lines = Lines()
    reporting = Report(lines, run())
    reporting(6, sums())
    reporting(7, sums(**bad))
    with pytest.raises(NonFinite, match=r"step 7: .*(nan|inf).*checkpoint"):
        reporting(8, sums())
    assert list(lines.written) == [6]


def test_the_time_of_an_evaluation_is_no_time_of_a_step(clock: Clock) -> None:
    lines = Lines()
    reporting = Report(lines, run(every_steps=6))
    for step in range(1, 7):
        clock.seconds += 0.5 if step % 2 else 0.25
        reporting(step, sums())
        if step == 3:
            reporting.flush()
            clock.seconds += 1000.0  # an evaluation, a save
    reporting.flush()
    line = lines.written[6]
    # Steps 2 and 3, 5 and 6; the first after a pause begins before the clock is read.
    seconds = np.array([0.25, 0.5, 0.5, 0.25])
    error = seconds.std(ddof=1) / 2
    assert line["perf/step_ms"] == pytest.approx(375)
    assert line["perf/step_ms_se"] == pytest.approx(1e3 * error)
    assert line["perf/tokens_per_sec"] == pytest.approx(1000 / 0.375)
    assert line["perf/tokens_per_sec_se"] == pytest.approx(1000 / 0.375 * error / 0.375)


def test_compiling_the_first_update_is_no_time_of_a_step(clock: Clock) -> None:
    lines = Lines()
    reporting = Report(lines, run(every_steps=2))
    clock.seconds += 60.0  # the first call of the step
    reporting(1, sums())
    clock.seconds += 0.1
    reporting(2, sums())
    reporting.flush()
    assert lines.written[2]["perf/step_ms"] == pytest.approx(100)


def test_mfu_is_the_share_of_the_peak_of_the_devices_in_use(clock: Clock) -> None:
    lines = {kind: Lines() for kind in ("cpu", "NVIDIA A100-SXM4-40GB")}
    for kind, own in lines.items():
        reporting = Report(own, run(every_steps=3, device_kind=kind, devices=2))
        for step in range(1, 4):
            clock.seconds += 0.01 * step
            reporting(step, sums())
        reporting.flush()
    on_cpu, on_gpu = (own.written[3] for own in lines.values())
    assert "perf/mfu" not in on_cpu and "perf/tokens_per_sec" in on_cpu
    assert on_gpu["perf/mfu"] == pytest.approx(1000 * 2e9 / 0.025 / (2 * 312e12))
    assert on_gpu["perf/mfu_se"] / on_gpu["perf/mfu"] == pytest.approx(0.005 / 0.025)
