"""Roles and sides come from axis names: checked on a model that has a parameter of every kind."""

from __future__ import annotations

import jax
import pytest

from nanogpt_jax import models
from nanogpt_jax.models import gpt
from nanogpt_jax.optim.groups import Groups, group

CONFIG = gpt.Config(
    n_layer=2,
    n_head=4,
    n_kv_head=2,
    d_model=8,
    d_hidden=12,
    max_seq_len=16,
    norm="layer",
    norm_gain=True,
    positions="learned",
    activation="swiglu",
    bias=True,
    head_bias=True,
)


@pytest.fixture(scope="module")
def groups() -> Groups:
    return group(models.build("gpt", CONFIG, 11).axes)


def test_matrices_are_those_of_the_layers_alone(groups: Groups) -> None:
    roles = dict(groups.roles)
    layers = roles.pop("layers")
    named = {jax.tree_util.keystr(path): role for path, role in jax.tree.leaves_with_path(layers)}
    matrices = {name for name, role in named.items() if role == "matrix"}
    assert matrices == {
        *(f"['attention']['w_{name}']" for name in ("q", "k", "v", "o")),
        *(f"['mlp']['w_{name}']" for name in ("up", "gate", "down")),
    }
    assert {role for name, role in named.items() if name not in matrices} == {"vector"}
    assert "matrix" not in jax.tree.leaves(roles)


def test_tables_are_embeddings_and_the_head_is_the_head(groups: Groups) -> None:
    assert groups.roles["w_embed"] == groups.roles["w_position"] == "embedding"
    assert groups.roles["w_head"] == "head"
    assert groups.roles["b_head"] == "vector"
    assert set(jax.tree.leaves(groups.roles["norm_final"])) == {"vector"}


def test_the_sides_of_a_matrix_are_what_it_sums_over_and_what_comes_out(groups: Groups) -> None:
    attention, mlp = groups.sides["layers"]["attention"], groups.sides["layers"]["mlp"]
    reads, heads = attention["w_q"], attention["w_o"]  # L D H C and L H C D
    assert (reads.inputs, reads.outputs) == ((1,), (2, 3))
    assert (heads.inputs, heads.outputs) == ((1, 2), (3,))
    assert (mlp["w_up"].inputs, mlp["w_up"].outputs) == ((1,), (2,))
    assert (mlp["w_down"].inputs, mlp["w_down"].outputs) == ((1,), (2,))


def test_a_mask_holds_the_chosen_roles(groups: Groups) -> None:
    mask = groups.mask("head", "embedding")
    assert mask["w_head"] and mask["w_embed"]
    assert not mask["b_head"] and not any(jax.tree.leaves(mask["layers"]))


def test_a_tied_model_has_no_head() -> None:
    tied = models.build("gpt", gpt.Config(n_layer=1, d_model=8, tied_head=True), 11)
    assert "head" not in jax.tree.leaves(group(tied.axes).roles)
