"""What inspection says of a model, against plain passes and weights changed by hand.

The parameters are noise, for every registered model: a fresh model would hide faults behind zeros.
"""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import compile_events

from nanogpt_jax import inspection
from nanogpt_jax import models as model_files
from nanogpt_jax.experiment import load_config, resolve
from nanogpt_jax.interface import Edit
from nanogpt_jax.layers import split_layers
from nanogpt_jax.models import models
from nanogpt_jax.train import train

REPOSITORY = Path(__file__).parents[1]
V, T, PADDED = 17, 6, 8
SMALL = {"n_layer": 2, "n_head": 2, "d_model": 8, "d_head": 4, "max_seq_len": PADDED}
# Every program takes half a second to compile: gpt stands for all, and the rest is slow.
LAYERED = [
    pytest.param(name, marks=() if name == "gpt" else pytest.mark.slow)
    for name in models
    if models[name]().shape(V).n_layer
]
TOKENS = [3, 14, 1, 5, 9, 2]
OTHER = [3, 14, 7, 5, 9, 2]  # differs at position 2 alone
REST = ("residual", "attention", "mlp_out")
WITH_MLP = ["gpt", *(pytest.param(name, marks=pytest.mark.slow) for name in ("moe", "rustgpt"))]


@functools.cache
def make(name: str) -> tuple[Any, Any, Any]:
    """A small model, noise for its parameters, and its shape."""
    known = models.fields(name)
    config = models[name](**{field: size for field, size in SMALL.items() if field in known})
    model = model_files.build(name, config, V)
    leaves, tree = jax.tree.flatten(jax.eval_shape(model.init, jax.random.key(0)))
    noise = np.random.default_rng(0)
    drawn = [jnp.asarray(noise.normal(scale=0.4, size=leaf.shape), "float32") for leaf in leaves]
    return model, jax.tree.unflatten(tree, drawn), config.shape(V)


@functools.cache
def plain_pass(name: str) -> Any:
    """(params, row_1T, edits) -> logprobs_TV, without inspection."""
    model, _, _ = make(name)

    def run(params: Any, row_1T: Any, edits: Any) -> Any:
        hidden_1TD = model.apply(params, row_1T, edits=edits).hidden_BTD
        return jax.nn.log_softmax(model.unembed(params, hidden_1TD)[0])

    return jax.jit(run)


def logprobs_of(name: str, params: Any, tokens: list[int], edits: Any = None) -> np.ndarray:
    """logprobs_TV of a plain pass."""
    return np.asarray(plain_pass(name)(params, np.array([tokens]), edits))


def nats_of(name: str, params: Any, tokens: list[int]) -> np.ndarray:
    """nats_P of a plain pass."""
    return -logprobs_of(name, params, tokens)[np.arange(T - 1), tokens[1:]]


def capture(model: Any, params: Any, site: str) -> Any:
    """What a site holds in a plain pass over `TOKENS`."""
    run = jax.jit(functools.partial(model.apply, capture=(site,)))
    return run(params, np.array([TOKENS])).captured[site]


def without(params: Any, place: str, names: dict[str, Any]) -> Any:
    """The parameters with `names` of the layers' `place` set to 0 where said."""
    part = params["layers"][place]
    zeroed = {name: part[name].at[where].set(0.0) for name, where in names.items() if name in part}
    assert zeroed
    return {**params, "layers": {**params["layers"], place: part | zeroed}}


@pytest.mark.parametrize("name", LAYERED)
def test_attention_sums_to_one_sees_nothing_later_and_is_measured(name: str):
    model, params, shape = make(name)
    seen = inspection.attention(model, params, TOKENS, padded_length=PADDED)
    p_LHTS = seen.probabilities_LHTS
    assert p_LHTS.shape == (shape.n_layer, shape.n_head, T, T)
    np.testing.assert_allclose(p_LHTS.sum(-1), 1, atol=1e-6)
    assert (np.triu(p_LHTS, 1) == 0).all()
    for layer, head, t in np.ndindex(shape.n_layer, shape.n_head, T):
        row = [float(p) for p in p_LHTS[layer, head, t, : t + 1]]
        entropy, distance = seen.entropy_nats_LHT, seen.distance_tokens_LHT
        assert entropy[layer, head, t] == pytest.approx(
            -sum(p * math.log(p) for p in row), abs=1e-5
        )
        back = sum(p * (t - s) for s, p in enumerate(row))
        assert distance[layer, head, t] == pytest.approx(back, abs=1e-5)
    assert np.ptp(seen.entropy_nats_LHT) > 0.1 and np.ptp(seen.distance_tokens_LHT) > 0.1


@pytest.mark.parametrize("name", ["embedding", *LAYERED])
def test_predictions_are_those_of_a_plain_pass(name: str):
    model, params, _ = make(name)
    said = inspection.predict(model, params, TOKENS, alternatives=V + 1, padded_length=PADDED)
    expected = logprobs_of(name, params, TOKENS)
    order = np.argsort(-expected, axis=-1)
    np.testing.assert_array_equal(said.tokens_TA, order)
    np.testing.assert_allclose(said.logprobs_TA, np.take_along_axis(expected, order, -1), atol=1e-5)
    np.testing.assert_allclose(said.nats_P, nats_of(name, params, TOKENS), atol=1e-5)
    ranks = [list(row).index(token) for row, token in zip(order, TOKENS[1:], strict=False)]
    assert said.ranks_P.tolist() == ranks and len(set(ranks)) > 1
    np.testing.assert_allclose(
        said.entropy_nats_T, -(np.exp(expected) * expected).sum(-1), atol=1e-5
    )


@pytest.mark.parametrize("name", LAYERED)
def test_a_row_of_the_lens_is_the_model_cut_there_and_the_last_one_the_model(name: str):
    model, params, shape = make(name)
    L = shape.n_layer
    lens = inspection.logit_lens(model, params, TOKENS, alternatives=V, padded_length=PADDED)
    assert lens.nats_MP.shape == (L + 1, T - 1) and lens.tokens_MTA.shape == (L + 1, T, V)
    for depth in range(1, L + 1):
        layers = params["layers"] if depth == L else split_layers(params["layers"], L)[:depth]
        expected = logprobs_of(name, {**params, "layers": layers}, TOKENS)
        listed = np.take_along_axis(expected, lens.tokens_MTA[depth], -1)
        np.testing.assert_allclose(lens.logprobs_MTA[depth], listed, atol=1e-5)
    said = inspection.predict(model, params, TOKENS, alternatives=V, padded_length=PADDED)
    for row, own in zip(lens, said, strict=True):
        np.testing.assert_allclose(row[-1], own, atol=1e-5)
    assert (np.ptp(lens.nats_MP, axis=0) > 0).all()


@pytest.mark.parametrize("name", LAYERED)
def test_ablating_a_head_is_the_pass_without_its_weights(name: str):
    model, params, shape = make(name)
    found = inspection.ablate_heads(model, params, TOKENS, padded_length=PADDED)
    plain = nats_of(name, params, TOKENS)
    np.testing.assert_allclose(found.nats_P, plain, atol=1e-5)
    assert found.without_nats_LHP.shape == (shape.n_layer, shape.n_head, T - 1)
    for layer, head in np.ndindex(shape.n_layer, shape.n_head):
        # Without an output matrix, what a head reads is what it gives.
        where = {"w_o": np.s_[layer, head]}
        if "w_o" not in params["layers"]["attention"]:
            where = {"w_v": np.s_[layer, :, head]}
        expected = nats_of(name, without(params, "attention", where), TOKENS)
        np.testing.assert_allclose(found.without_nats_LHP[layer, head], expected, atol=1e-5)
        assert np.abs(expected - plain).max() > 1e-3


@pytest.mark.parametrize("name", WITH_MLP)
def test_ablating_an_mlp_is_the_pass_without_its_weights(name: str):
    model, params, shape = make(name)
    found = inspection.ablate_mlps(model, params, TOKENS, padded_length=PADDED)
    plain = nats_of(name, params, TOKENS)
    np.testing.assert_allclose(found.nats_P, plain, atol=1e-5)
    for layer in range(shape.n_layer):
        place = "experts" if name == "moe" else "mlp"
        quiet = without(params, place, {"w_down": layer, "b_down": layer})
        expected = nats_of(name, quiet, TOKENS)
        np.testing.assert_allclose(found.without_nats_LP[layer], expected, atol=1e-5)
        assert np.abs(expected - plain).max() > 1e-3


def test_silenced_parts_are_those_of_the_sweep_and_a_new_choice_compiles_nothing():
    model, params, _ = make("gpt")
    heads_LHP = inspection.ablate_heads(model, params, TOKENS, padded_length=PADDED)[1]
    mlps_LP = inspection.ablate_mlps(model, params, TOKENS, padded_length=PADDED)[1]

    def nats_without(heads: Any = (), mlps: Any = ()) -> np.ndarray:
        edits = inspection.silence(model, params, heads=heads, mlps=mlps)
        return inspection.predict(model, params, TOKENS, edits=edits, padded_length=PADDED).nats_P

    np.testing.assert_allclose(nats_without(), nats_of("gpt", params, TOKENS), atol=1e-5)
    with compile_events() as compiled:
        np.testing.assert_allclose(nats_without(heads=[(1, 0)]), heads_LHP[1, 0], atol=1e-5)
        np.testing.assert_allclose(nats_without(mlps=[0]), mlps_LP[0], atol=1e-5)
        both = nats_without(heads=[(1, 0), (0, 1)], mlps=[0])
    assert compiled == []
    assert np.abs(both - mlps_LP[0]).max() > 1e-3
    for heads, mlps in (([(2, 0)], ()), ([(0, -1)], ()), ((), [2])):
        with pytest.raises(ValueError, match=r"the model has \(2,"):
            inspection.silence(model, params, heads=heads, mlps=mlps)


@pytest.mark.parametrize("name", LAYERED)
def test_patching_a_prompt_into_itself_changes_nothing(name: str):
    model, params, shape = make(name)
    expected = logprobs_of(name, params, TOKENS)[-1]
    there = inspection.patch_positions(model, params, TOKENS, TOKENS, padded_length=PADDED)
    heads = inspection.patch_heads(model, params, TOKENS, TOKENS, padded_length=PADDED)
    for found, size in ((there, (shape.n_layer, T)), (heads, (shape.n_layer, shape.n_head))):
        assert found.answer == expected.argmax() and found.patched.shape == size
        np.testing.assert_allclose(found.clean, expected.max(), atol=1e-5)
        np.testing.assert_allclose(found.corrupted, found.clean, atol=1e-6)
        np.testing.assert_allclose(found.patched, found.corrupted, atol=1e-6)


@pytest.mark.parametrize("name", LAYERED)
def test_a_patched_embedding_restores_the_clean_run_where_the_prompts_differ(name: str):
    model, params, _ = make(name)
    found = inspection.patch_positions(model, params, TOKENS, OTHER, answer=4, padded_length=PADDED)
    clean, corrupted = (logprobs_of(name, params, tokens)[-1, 4] for tokens in (TOKENS, OTHER))
    assert abs(clean - corrupted) > 1e-3
    np.testing.assert_allclose((found.clean, found.corrupted), (clean, corrupted), atol=1e-5)
    below = [clean if t == 2 else corrupted for t in range(T)]
    np.testing.assert_allclose(found.patched[0], below, atol=1e-5)
    # What stands before the difference is equal in both runs, in every layer.
    np.testing.assert_allclose(found.patched[:, :2], corrupted, atol=1e-5)


@pytest.mark.parametrize(
    "site", ["head_out", *(pytest.param(site, marks=pytest.mark.slow) for site in REST)]
)
def test_a_patched_state_is_the_pass_with_that_edit(site: str):
    model, params, shape = make("gpt")
    found = inspection.patch_positions(
        model, params, TOKENS, OTHER, site=site, answer=4, padded_length=PADDED
    )
    value = capture(model, params, site)
    for layer, t in ((0, 2), (1, 2), (1, T - 1)):
        replace = np.zeros(value.shape, bool)
        replace[layer, ..., t, :] = True
        edits = {site: Edit(jnp.asarray(replace), value)}
        expected = logprobs_of("gpt", params, OTHER, edits=edits)[-1, 4]
        assert found.patched[layer, t] == pytest.approx(expected, abs=1e-5)
    assert found.patched.shape == (shape.n_layer, T) and np.ptp(found.patched) > 1e-3


def test_a_patched_head_is_the_pass_with_that_edit():
    model, params, shape = make("gpt")
    found = inspection.patch_heads(model, params, TOKENS, OTHER, answer=4, padded_length=PADDED)
    value = capture(model, params, "head_out")
    for layer, head in np.ndindex(shape.n_layer, shape.n_head):
        replace = np.zeros(value.shape, bool)
        replace[layer, :, head] = True
        edits = {"head_out": Edit(jnp.asarray(replace), value)}
        expected = logprobs_of("gpt", params, OTHER, edits=edits)[-1, 4]
        assert found.patched[layer, head] == pytest.approx(expected, abs=1e-5)
    assert np.ptp(found.patched) > 1e-3


def test_routing_weighs_as_many_experts_as_answer():
    model, params, shape = make("moe")
    seen = inspection.routing(model, params, TOKENS, padded_length=PADDED)
    assert seen.probabilities_LTE.shape == (shape.n_layer, T, 4)
    for shares in (seen.probabilities_LTE, seen.gates_LTE, seen.share_LE):
        np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-6)
    assert ((seen.gates_LTE > 0).sum(-1) == 2).all()
    order = np.argsort(-seen.probabilities_LTE, axis=-1)
    chosen = np.take_along_axis(seen.gates_LTE, order, -1)
    assert (chosen[..., :2] > 0).all() and (chosen[..., 2:] == 0).all()
    np.testing.assert_allclose(seen.share_LE, seen.gates_LTE.sum(1) / T, atol=1e-6)


def test_prompts_up_to_the_padded_length_share_one_program():
    model, params, _ = make("gpt")

    def look(tokens: list[int]) -> list[Any]:
        inspect = (
            *(inspection.attention, inspection.predict, inspection.logit_lens),
            *(inspection.ablate_heads, inspection.ablate_mlps),
        )
        seen = [one(model, params, tokens, padded_length=PADDED) for one in inspect]
        both = (tokens, tokens[::-1])
        patches = (inspection.patch_positions, inspection.patch_heads)
        return [*seen, *(one(model, params, *both, padded_length=PADDED) for one in patches)]

    look(TOKENS)
    with compile_events() as compiled:
        attention, predictions, lens, heads, mlps, positions, _ = look([5])
        look([*TOKENS, 7, 8])
    assert compiled == []
    assert attention.probabilities_LHTS.tolist() == [[[[1]]] * 2] * 2
    assert predictions.nats_P.shape == (0,) and lens.nats_MP.shape == (3, 0)
    assert heads.without_nats_LHP.shape == (2, 2, 0) and mlps.without_nats_LP.shape == (2, 0)
    assert positions.patched.shape == (2, 1)


@pytest.mark.parametrize(
    ("name", "look", "site"),
    [
        ("embedding", inspection.attention, "attention"),
        ("embedding", inspection.logit_lens, "residual"),
        ("embedding", inspection.ablate_heads, "head_out"),
        ("multi_head", inspection.ablate_mlps, "mlp_out"),
        ("gpt", inspection.routing, "router"),
    ],
)
def test_a_site_that_the_model_has_not_is_named(name: str, look: Any, site: str):
    model, params, _ = make(name)
    with pytest.raises(ValueError, match=f"site.*'{site}'"):
        look(model, params, TOKENS)


def test_prompts_that_cannot_be_looked_at_are_refused():
    model, params, _ = make("gpt")
    with pytest.raises(ValueError, match="empty prompt"):
        inspection.predict(model, params, [])
    with pytest.raises(ValueError, match="6 tokens for padded_length=5"):
        inspection.predict(model, params, TOKENS, padded_length=5)
    with pytest.raises(ValueError, match="6 clean and 5 corrupted tokens"):
        inspection.patch_heads(model, params, TOKENS, OTHER[:5])
    with pytest.raises(ValueError, match="answer=17; the vocabulary has 17"):
        inspection.patch_heads(model, params, TOKENS, OTHER, answer=V)


@pytest.mark.slow
def test_the_documented_program_runs_on_a_run_directory(tmp_path, monkeypatch, capsys):
    text = (REPOSITORY / "docs/inspection.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    settings = load_config(str(REPOSITORY / "configs/tiny.py"))
    small = {"train.steps": "2", "data.stories": "50", "eval.samples": "0"}
    train(resolve(settings, list(small.items())), tmp_path / "checkpoints/minigpt")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(compile(program, "docs/inspection.md", "exec"), names)
    printed = capsys.readouterr().out
    depths = names["run"].shape.n_layer + 1
    assert len(re.findall(r"^depth \d+ says '", printed, re.MULTILINE)) == depths
    assert "then it says '" in printed and "gained by a patch, nats: [" in printed
