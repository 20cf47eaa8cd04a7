"""The planner: formulas beside what XLA allocates, budgets, chips, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from absl import logging

from nanogpt_jax import experiment, plan, planning
from nanogpt_jax.bench.machine import ROWS, read_rates
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.interface import Batch
from nanogpt_jax.parallel import make_layout
from nanogpt_jax.planning import Rates, Shapes
from nanogpt_jax.step import train_step

REPOSITORY = Path(__file__).resolve().parents[1]
ONE = {"data": 1, "fsdp": 1, "tensor": 1}
WIDER = {
    "model.n_layer": 3,
    "model.d_model": 192,
    "model.n_head": 3,
    "model.n_kv_head": 1,
    "train.batch_size": 24,
    "train.accumulate_steps": 2,
    "tokenizer.vocab_size": 1000,
}
LONGER = {
    "model.n_layer": 2,
    "model.max_seq_len": 512,
    "train.seq_len": 512,
    "train.batch_size": 4,
    "train.accumulate_steps": 1,
    "model.activation": "swiglu",
}


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    """The command is quiet; the process that other tests share is not to stay so."""
    before = logging.get_verbosity()
    yield
    logging.set_verbosity(before)


def shapes_of(config: str = "minigpt", changes: dict[str, Any] | None = None) -> Shapes:
    settings = experiment.load_config(str(REPOSITORY / f"configs/{config}.py"))
    words = [(name, str(value)) for name, value in (changes or {}).items()]
    return planning.shapes_of(experiment.resolve(settings, words))


def allocated(shapes: Shapes) -> int:
    """Bytes that XLA sets aside for the state and one compiled update on a CPU."""
    asked = shapes.plan
    model = experiment.build_model(asked, shapes.vocab_size, training=True)
    recipe = experiment.build_recipe(asked, model, shapes.vocab_size)
    hyper = experiment.build_hyper(asked, 100)
    tokens = jax.ShapeDtypeStruct((asked.train.batch_size, asked.train.seq_len), jnp.int32)
    batch = Batch(tokens, tokens, jax.ShapeDtypeStruct(tokens.shape, jnp.float32))
    layout = make_layout(asked.parallel, model.axes, jax.devices()[:1])
    step: Any = layout.compile_step(train_step, recipe)
    found = step.lower(shapes.state, batch, hyper).compile().memory_analysis()
    beside = found.argument_size_in_bytes + found.output_size_in_bytes
    return found.temp_size_in_bytes + beside - found.alias_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ("minigpt", {}),
        ("tiny", {}),
        ("minigpt", WIDER),
        ("minigpt", LONGER),
    ],
)
def test_memory_is_within_ten_percent_of_what_xla_sets_aside(
    config: str, changes: dict[str, Any]
) -> None:
    shapes = shapes_of(config, changes)
    needed = planning.memory_of(shapes, ONE, on_cpu=True)
    assert needed is not None
    assert needed.total == pytest.approx(allocated(shapes), rel=0.1)


def test_what_is_kept_is_counted_exactly_and_split_as_the_mesh_splits_it() -> None:
    shapes = shapes_of()
    whole = planning.memory_of(shapes, ONE, on_cpu=True)
    split = planning.memory_of(shapes, {"data": 1, "fsdp": 8, "tensor": 1}, on_cpu=True)
    assert whole is not None and split is not None
    assert whole.params == 4 * shapes.parameters
    moments = jax.tree.leaves(shapes.state.opt_state)
    assert whole.optimizer == sum(leaf.size * leaf.dtype.itemsize for leaf in moments)
    assert split.params == pytest.approx(whole.params / 8, rel=0.01)
    assert split.optimizer == pytest.approx(whole.optimizer / 8, rel=0.01)
    assert split.step < whole.step / 3  # its rows are fewer, too


def test_a_model_without_a_formula_says_so() -> None:
    shapes = shapes_of("single_head")
    assert planning.memory_of(shapes, ONE, on_cpu=True) is None


@pytest.mark.parametrize(
    ("horizon", "steps"),
    [
        ({"tokens_per_parameter": 20.0}, 4520),  # 20 x 925,696 / 4096, rounded up
        ({"flops": 2.7e12}, 101),
        ({"seconds": 10.0}, 40),
        ({"seconds": 0.1}, 1),
        ({}, 1000),
    ],
)
def test_a_budget_becomes_updates(horizon: dict[str, float], steps: int) -> None:
    horizons = {"tokens_per_parameter": 0.0, "flops": 0.0, "seconds": 0.0} | horizon
    assert planning.steps_within(shapes_of(), horizons, step_seconds=0.25) == steps


def printed(capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, str]:
    config = options.pop("config", str(REPOSITORY / "configs/minigpt.py"))
    plan.main(config=config, overrides=[], **options)
    lines = capsys.readouterr().out.splitlines()
    return {line[:12].strip(): line[12:] for line in lines}


def test_a_chip_is_planned_from_its_peak_and_its_price(capsys: pytest.CaptureFixture[str]) -> None:
    dial = f"{REPOSITORY / 'configs/dial.py'}:depth=20"
    told = printed(capsys, config=dial, chip="NVIDIA H100", chips=8, price=2.0, mfu=0.5)
    assert "8 x NVIDIA H100" in told["config"] and "fits in 74.5 GiB" in told["memory"]
    # 2.93e9 FLOPs a token x 2^20 tokens, and Muon's own, by 8 x 989e12 x 0.5 a second
    assert told["an update"] == "779 ms"
    assert told["cost"].startswith("$15.08 at $2")
    small = printed(capsys, config=dial, chip="NVIDIA L4")
    assert "DOES NOT FIT" in small["memory"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"chip": "H100"}, "'H100' is unknown; `here` or one of .*NVIDIA H100"),
        ({"chips": 2}, "a chip's name is required"),
        ({"flops": 1.0, "seconds": 1.0}, "--flops, --seconds: they contradict"),
        ({"ceiling": "nowhere.json"}, "bench ceiling --json=FILE"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    capsys: pytest.CaptureFixture[str], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        printed(capsys, **options)


def test_rates_are_those_that_the_ceiling_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"row": row.name, "name": "ours", "values": [rate / 2, rate, rate]}
        for row, rate in zip(ROWS, (100.0, 2.0), strict=True)
    ]
    file = tmp_path / "ceiling.json"
    file.write_text(json.dumps({"rows": lines}))
    rates = read_rates(file)
    assert rates == Rates(100e9, 2e9)
    shapes = shapes_of()
    slow = planning.seconds_here(shapes, rates)
    assert slow > planning.OF_A_PRODUCT * shapes.flops_per_update / 100e9
    fast = planning.seconds_here(shapes, Rates(200e9, 4e9))
    once = planning.UPDATE_SECONDS
    assert fast - once == pytest.approx((slow - once) / 2)
    assert printed(capsys, ceiling=str(file))["an update"] == f"{1e3 * slow:.3g} ms"
