"""`bench decode` beside transformers: both sides do the work that the table names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import models
from nanogpt_jax.attention import write_cache
from nanogpt_jax.bench import generation
from nanogpt_jax.generate import Generator
from nanogpt_jax.models import gpt

SIZES = {"n_layer": 1, "n_head": 2, "d_model": 16, "length": 32, "vocab": 29}
CONFIG = gpt.Config(n_layer=2, n_head=2, d_model=16, max_seq_len=4096)


@pytest.mark.slow
def test_both_sides_draw_as_many_tokens_as_the_row_says():
    pytest.importorskip("transformers")
    from nanogpt_jax.bench.peers import transformers_decode

    work = {**SIZES, "batch": 3, "tokens": 5}
    ours = generation.complete(**work)()
    assert ours["tokens"] == transformers_decode.complete(**work)()["tokens"] == 15


def test_sides_of_a_contest_get_the_same_work_and_peers_come_only_when_asked():
    for alone, beside in zip(generation.contests(False), generation.contests(True), strict=True):
        assert alone.contestants[0] == beside.contestants[0]
        if beside.rival == "transformers":
            assert len(alone.contestants) == 1
            assert beside.contestants[0].arguments == beside.contestants[1].arguments


def test_tokens_of_the_bandwidth_row_read_what_gpt2_holds():
    row = generation.contests(False)[-1]
    tokens = row.contestants[0].arguments["tokens"]
    # 124,439,808 parameters (Radford et al. 2019), without the 1024 rows of positions.
    assert row.amount == pytest.approx(4e-9 * tokens * (124_439_808 - 1024 * 768))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_a_loop_of_steps_holds_no_copy_of_its_cache(batch: int):
    model = models.build("gpt", CONFIG, 29)
    params = model.init(jax.random.key(0))
    cache = model.empty_cache and model.empty_cache(batch, CONFIG.max_seq_len)
    assert cache is not None
    one_layer_bytes = cache.keys[0].nbytes
    assert one_layer_bytes > 2 * 4096 * 4 * batch  # than the scores of all positions
    held_bytes = Generator(model, CONFIG.max_seq_len).temporary_bytes(params, batch)
    assert held_bytes < one_layer_bytes


def test_rows_are_written_where_each_of_them_stands():
    buffer = np.zeros((3, 2, 8, 4), np.float32)
    new = np.random.default_rng(0).normal(size=(3, 2, 2, 4)).astype(np.float32)
    start = np.array([0, 5, 3])
    expected = buffer.copy()
    for row, position in enumerate(start):
        expected[row, :, position : position + 2] = new[row]
    written = jax.jit(write_cache)(jnp.asarray(buffer), jnp.asarray(new), jnp.asarray(start))
    np.testing.assert_array_equal(written, expected)
