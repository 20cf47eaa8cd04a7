"""The depth dial: nanochat's own settings at the depth they were found at, its rules elsewhere."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nanogpt_jax import dial
from nanogpt_jax.costs import parameter_count
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import load_config, resolve
from nanogpt_jax.planning import shapes_of

CONFIG = str(Path(__file__).parents[1] / "configs/dial.py")


def test_at_depth_twelve_all_is_as_it_was_found() -> None:
    plan = resolve(load_config(CONFIG))
    shape = plan.model.shape(1)
    assert (shape.d_model, shape.n_head) == (768, 6)
    assert plan.tokens_per_step == 2**19
    assert plan.optimizer.learning_rate == 0.02
    assert plan.optimizer_fields["embedding_ratio"] == pytest.approx(15)
    assert plan.optimizer_fields["weight_decay"] == pytest.approx(0.2)


@pytest.mark.parametrize("depth", [1, 3, 4, 12, 20, 26])
def test_what_is_multiplied_is_counted_as_the_model_has_it(depth: int) -> None:
    shapes = shapes_of(resolve(load_config(f"{CONFIG}:depth={depth}")))
    embedding = shapes.vocab_size * shapes.shape.d_model
    counted = parameter_count(shapes.state.params) - embedding
    assert counted == dial.multiplied(depth, shapes.vocab_size)


def test_deeper_models_have_larger_batches_and_rates_and_less_decay() -> None:
    found = [dial.turn(depth, 10.5, 32_768, 1) for depth in (4, 8, 12, 16, 24)]
    for smaller, larger in itertools.pairwise(found):
        assert smaller.batch <= larger.batch and smaller.learning_rate <= larger.learning_rate
        assert smaller.weight_decay > larger.weight_decay
        assert smaller.embedding_ratio > larger.embedding_ratio
    # B / (rate decay D) stays, up to rounding the number of updates.
    horizons = [
        each.batch / (each.learning_rate * each.weight_decay * each.batch * each.steps)
        for each in found
    ]
    assert horizons == pytest.approx([horizons[0]] * len(horizons), rel=0.01)


def test_tokens_per_parameter_lengthen_a_run() -> None:
    short, long = (
        resolve(load_config(f"{CONFIG}:depth=4{more}")) for more in ("", ",tokens_per_parameter=42")
    )
    assert long.steps * long.tokens_per_step == pytest.approx(
        4 * short.steps * short.tokens_per_step, rel=0.01
    )


@pytest.mark.parametrize(
    "asked", ["dept=3", "depth=0", "depth=2.5", "depth=x", "tokens_per_parameter=1"]
)
def test_a_dial_that_says_nothing_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match=r"configs/dial\.py"):
        load_config(f"{CONFIG}:{asked}")
