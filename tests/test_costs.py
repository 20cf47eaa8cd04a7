"""Formulas against what is counted: parameters, and XLA's own FLOPs of an unrolled model."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from nanogpt_jax import costs, models
from nanogpt_jax.interface import Batch
from nanogpt_jax.models import gpt, single_head
from nanogpt_jax.step import loss_sums
from tests.fakes import recipe_of

V, T, B = 512, 64, 2
CONFIG = gpt.Config(n_layer=2, n_head=4, n_kv_head=2, d_model=128, max_seq_len=T)


def test_parameters_are_counted_from_shapes() -> None:
    shapes = jax.eval_shape(models.build("gpt", CONFIG, V).init, jax.random.key(0))
    D, H, K, C, F = 128, 4, 2, 32, 512
    a_layer = D * H * C + 2 * D * K * C + H * C * D + 2 * D * F
    assert costs.parameter_count(shapes) == 2 * V * D + 2 * a_layer


def counted_flops_per_token(config: gpt.Config) -> float:
    """What XLA counts in the gradient of the loss, before it optimises; no loop hides a layer."""
    model = models.build("gpt", config, V)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((B, T), jnp.int32)
    batch = Batch(tokens, tokens, jax.ShapeDtypeStruct((B, T), jnp.float32))
    recipe = recipe_of("adamw", model, V, chunk_logits=B * T * V)
    gradient = jax.jit(jax.grad(lambda params, batch: loss_sums(recipe, params, batch).nats))
    lowered = gradient.lower(shapes, batch)
    assert "while" not in lowered.as_text()
    analysis = lowered.cost_analysis()
    assert analysis is not None
    return analysis["flops"] / (B * T)


@pytest.mark.parametrize("tied_head", [False, True])
def test_the_formula_is_within_three_percent_of_what_xla_counts(tied_head: bool) -> None:
    config = gpt.Config(
        n_layer=2, n_head=4, n_kv_head=2, d_model=128, max_seq_len=T, tied_head=tied_head
    )
    model = models.build("gpt", config, V)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    formula = costs.train_flops_per_token(shapes, model.axes, config.shape(V), T)
    # XLA multiplies the masked half of the scores too; the formula counts what is needed.
    masked_half = 6 * config.n_layer * config.d_model * T
    assert masked_half / formula > 0.03  # so the comparison would notice
    assert formula + masked_half == pytest.approx(counted_flops_per_token(config), rel=0.03)


def test_attention_costs_the_width_of_its_heads_not_of_the_stream() -> None:
    config = single_head.Config(d_model=128, d_head=32, max_seq_len=T)
    model = models.build("single_head", config, V)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    short, long = (
        costs.train_flops_per_token(shapes, model.axes, config.shape(V), length)
        for length in (T, 3 * T)
    )
    assert long - short == 6 * 32 * 2 * T


def test_attention_without_an_output_projection_is_counted_too() -> None:
    D, C = 128, 32
    config = single_head.Config(d_model=D, d_head=C, max_seq_len=T, residual=False)
    model = models.build("single_head", config, V)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert "w_o" not in shapes["layers"]["attention"]
    products = 3 * D * C + C * V  # queries, keys, values and the head
    scores_and_mix = 2 * C * T / 2
    by_hand = 6 * (products + scores_and_mix)
    assert costs.train_flops_per_token(shapes, model.axes, config.shape(V), T) == by_hand


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("cpu", None),
    ],
)
def test_the_longest_name_in_the_table_wins(kind: str, peak: float | None) -> None:
    devices = [SimpleNamespace(device_kind=kind)] * 4
    assert costs.peak_flops(devices) == (None if peak is None else 4 * peak)


def test_the_peak_of_this_cpu_is_not_known() -> None:
    assert costs.peak_flops(jax.devices("cpu")) is None


def test_a_token_reads_every_weight_once_and_a_table_that_is_looked_up_not_at_all() -> None:
    tied, apart = (
        gpt.Config(n_layer=1, n_head=2, d_model=8, max_seq_len=4, tied_head=tied)
        for tied in (True, False)
    )
    per_layer = 4 * 8 * 8 + 2 * 8 * 32
    for config in (tied, apart):
        model = models.build("gpt", config, 11)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        assert model.empty_cache
        cache = jax.eval_shape(lambda model=model: model.empty_cache(1, 4))
        count = costs.decode_bytes_per_token(shapes, model.axes, cache)
        assert count == 4 * (per_layer + 11 * 8 + 2 * 4 * 8) + 4


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 3350e9),
        ("NVIDIA H100 NVL", 3900e9),
        ("NVIDIA A100-SXM4-40GB", 1555e9),
        ("NVIDIA A100-SXM4-80GB", 2039e9),
        ("NVIDIA L40S", 864e9),
        ("cpu", None),
    ],
)
def test_bandwidth_is_looked_up_likewise(kind: str, peak: float | None) -> None:
    devices = [SimpleNamespace(device_kind=kind)] * 2
    assert costs.peak_bandwidth(devices) == (None if peak is None else 2 * peak)


def test_every_chip_with_a_peak_has_a_bandwidth() -> None:
    for kind in costs.PEAK_FLOPS:
        assert costs.peak_bandwidth([SimpleNamespace(device_kind=kind)]), kind
