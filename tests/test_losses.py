"""The loss against NumPy in float64, in chunks and whole; its sums, and its standard error."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import losses
from nanogpt_jax.losses import LossSums, chunk_sizes, mean_and_error, row_losses, sum_rows

B, T, V, D = 3, 10, 7, 4


def example(seed: int = 0, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "hidden": rng.normal(size=(B, T, D)).astype(dtype),
        "head": rng.normal(size=(D, V)).astype(dtype),
        "targets": rng.integers(0, V, (B, T), dtype=np.int32),
        "weights": rng.choice([0.0, 0.5, 1.0], (B, T)).astype(np.float32),
    }


def rows(hidden: Any, head: Any, targets: Any, weights: Any, chunk_logits: int) -> jax.Array:
    return row_losses(
        lambda x: x @ head, hidden, targets, weights, vocab_size=V, chunk_logits=chunk_logits
    )


def sums_of(nats: Any, tokens: Any) -> LossSums:
    return sum_rows(jnp.asarray(nats), jnp.asarray(tokens))


def by_hand(hidden: Any, head: Any, targets: Any, weights: Any) -> np.ndarray:
    logits = hidden.astype(np.float64) @ head.astype(np.float64)
    nats = (
        np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    )
    return (nats * weights).sum(1)


WHOLE = B * T * V
CHUNKED = 3 * B * V  # three positions at most, so four chunks of three, the last one padded


def test_the_loss_is_that_of_numpy_in_chunks_and_whole() -> None:
    case = example()
    assert chunk_sizes(B, T, V, WHOLE) == (1, T)
    assert chunk_sizes(B, T, V, CHUNKED) == (4, 3)
    for limit in (WHOLE, CHUNKED):
        np.testing.assert_allclose(rows(**case, chunk_logits=limit), by_hand(**case), rtol=1e-5)


def test_chunks_change_neither_losses_nor_gradients() -> None:
    with jax.enable_x64(True):
        case = example(dtype=np.float64)
        mixture = np.array([1.0, -2.0, 0.5])

        def measured(limit: int) -> Any:
            def total(hidden: Any, head: Any) -> tuple[jax.Array, jax.Array]:
                own = rows(hidden, head, case["targets"], case["weights"], limit)
                return jnp.sum(own * mixture), own

            compiled = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
            return compiled(case["hidden"], case["head"])

        assert chunk_sizes(B, T, V, WHOLE)[0] == 1 < chunk_sizes(B, T, V, CHUNKED)[0]
        whole, chunked = measured(WHOLE), measured(CHUNKED)
        assert chunked[1].dtype == jnp.float64
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), whole, chunked
        )


@pytest.mark.parametrize("limit", [WHOLE, CHUNKED])
def test_a_weight_of_zero_is_not_in_the_loss(limit: int) -> None:
    case = example()
    case["weights"][1, 4] = 0.0
    other = {name: value.copy() for name, value in case.items()}
    other["hidden"][1, 4] += 3.0
    other["targets"][1, 4] = (case["targets"][1, 4] + 1) % V
    one, two = rows(**case, chunk_logits=limit), rows(**other, chunk_logits=limit)
    np.testing.assert_array_equal(one, two)
    other["weights"][1, 4] = 1.0
    assert rows(**other, chunk_logits=limit)[1] != two[1]


def test_bfloat16_activations_still_give_a_float32_loss() -> None:
    case = example()
    half = {**case, "hidden": jnp.asarray(case["hidden"], jnp.bfloat16)}
    half["head"] = jnp.asarray(case["head"], jnp.bfloat16)
    for limit in (WHOLE, CHUNKED):
        found = rows(**half, chunk_logits=limit)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, by_hand(**case), rtol=0.05)


@given(
    rows=st.integers(1, 64),
    length=st.integers(1, 300),
    vocabulary=st.integers(2, 5000),
    limit=st.integers(1, 10**7),
)
def test_chunks_cover_all_positions_and_stay_below_the_limit(
    rows: int, length: int, vocabulary: int, limit: int
) -> None:
    chunks, size = chunk_sizes(rows, length, vocabulary, limit)
    assert (chunks - 1) * size < length <= chunks * size  # none is empty
    assert rows * size * vocabulary <= limit or size == 1
    whole = rows * length * vocabulary <= limit
    assert (chunks == 1) == (whole or length == 1)


def test_the_limit_fits_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = (32, 128, 1024)
    assert jax.default_backend() == "cpu"
    on_cpu = chunk_sizes(*batch, None)
    assert on_cpu == (8, 16) == chunk_sizes(*batch, losses.CHUNK_LOGITS_ON_CPU)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chunk_sizes(*batch, None) == (1, 128)


def largest_array(limit: int) -> int:
    """Numbers in the largest array of the compiled gradient of a batch with many logits."""
    rows, length, vocabulary = 2, 32, 512

    def total(hidden: jax.Array, head: jax.Array, targets: jax.Array) -> jax.Array:
        weights = jnp.ones((rows, length))
        return jnp.sum(
            row_losses(
                lambda x: x @ head,
                hidden,
                targets,
                weights,
                vocab_size=vocabulary,
                chunk_logits=limit,
            )
        )

    shapes = (
        jax.ShapeDtypeStruct((rows, length, D), jnp.float32),
        jax.ShapeDtypeStruct((D, vocabulary), jnp.float32),
        jax.ShapeDtypeStruct((rows, length), jnp.int32),
    )
    text = jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(*shapes).compile().as_text()
    assert text is not None
    found = re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", text)
    return max(math.prod(map(int, shape.split(","))) for shape in found)


def test_the_logits_of_a_whole_batch_do_not_exist_when_chunked() -> None:
    all_logits = 2 * 32 * 512
    assert largest_array(all_logits) == all_logits
    assert largest_array(all_logits // 8) == all_logits // 8


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    nats, tokens = rng.normal(20, 5, 12), rng.integers(0, 9, 12).astype(float)
    whole = sums_of(nats, tokens)
    parts = [sums_of(nats[part], tokens[part]) for part in (slice(5), slice(5, 6), slice(6, 12))]
    added = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), added, whole)
    assert mean_and_error(added) == pytest.approx(mean_and_error(whole), rel=1e-4)
    assert mean_and_error(parts[0]) != pytest.approx(mean_and_error(whole), rel=1e-2)


def test_the_standard_error_is_that_of_a_bootstrap_over_rows() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(20, 100, 200).astype(float)
    nats = tokens * rng.normal(2.0, 0.3, 200) + rng.normal(0, 5, 200)
    mean, error = mean_and_error(sums_of(nats, tokens))
    assert mean == pytest.approx(nats.sum() / tokens.sum(), rel=1e-5)
    drawn = rng.integers(0, 200, (4000, 200))
    again = nats[drawn].sum(1) / tokens[drawn].sum(1)
    assert error == pytest.approx(again.std(), rel=0.05)


def test_the_standard_error_of_equal_rows_is_the_textbooks() -> None:
    nats = np.array([10.0, 14.0, 12.0, 20.0])
    mean, error = mean_and_error(sums_of(nats, np.full(4, 4.0)))
    assert mean == pytest.approx(3.5)
    assert error == pytest.approx(np.std(nats / 4) / np.sqrt(4), rel=1e-5)


def test_no_token_is_no_loss_and_no_error() -> None:
    assert mean_and_error(LossSums(*map(jnp.float32, (0, 0, 0, 0, 0)))) == (0.0, 0.0)
