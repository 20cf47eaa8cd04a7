"""nanochat-rs's sizes, its JSON file, and what its switches do to queries, values and logits."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import nanochat
from nanogpt_jax.costs import parameter_count
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import load_config, resolve
from nanogpt_jax.models import gpt
from nanogpt_jax.nanochat import SIZES, Size

CONFIG = Path(__file__).parents[2] / "configs" / "nanochat.py"
TINY = Size(16, 13, 2, 4, 2, 16, 16, 0.0)
# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
COUNTS = {
    "small": 162_201_600,
    "medium": 405_012_480,
    "large": 836_567_040,
    "readme": 174_981_120,
    "d12": 185_597_952,
    "d20": 560_988_160,  # as nanochat itself counts
}


@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_the_parameters_of_its_formula_and_no_array_is_made(name: str):
    plan = resolve(load_config(f"{CONFIG}:{name}"))
    size: Size = SIZES[name]
    V, D, L = size.vocab_size, size.n_embd, size.n_layer
    kv = D * size.n_kv_head // size.n_head
    config: Any = plan.model
    model = gpt.build(config, V)
    counted = parameter_count(jax.eval_shape(model.init, jax.random.key(0)))
    assert counted == 2 * V * D + L * (2 * D * D + 2 * D * kv + 8 * D * D) == COUNTS[name]
    assert config == nanochat.model_of(size)
    assert plan.train.seq_len == size.sequence_len and plan.tokenizer.vocab_size == V
    assert plan.tokens_per_step == 2**19


def test_the_page_about_models_has_these_counts():
    page = (CONFIG.parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    for name, count in COUNTS.items():
        assert f"`nanochat.py:{name}` | {count:,} |" in page


def test_the_sizes_are_the_originals_but_for_one_that_cannot_be_built():
    assert SIZES["small"] == Size(1024, 50304, 12, 6, 6, 768, 1024, 0.0)
    assert SIZES["readme"] == Size(2048, 65536, 12, 8, 2, 768, 2048, 0.0)
    shapes = [(size.n_layer, size.n_embd) for size in (SIZES["medium"], SIZES["large"])]
    assert shapes == [(24, 1024), (36, 1280)]
    original = dataclasses.replace(SIZES["medium"], n_head=12, n_kv_head=12)
    assert "model.d_model=1024 is not a multiple of model.n_head=12" in "".join(
        nanochat.model_of(original).problems()
    )
    assert all(not nanochat.model_of(size).problems() for size in SIZES.values())


def test_json_out_and_in_is_the_same_and_trains_as_a_config(tmp_path: Path):
    size = dataclasses.replace(TINY, block_size=99, dropout=0.5)
    nanochat.write(tmp_path / "config.json", size)
    written = json.loads((tmp_path / "config.json").read_text())
    assert list(written) == [field.name for field in dataclasses.fields(Size)]
    assert nanochat.read(tmp_path / "config.json") == size
    config = load_config(f"{CONFIG}:{tmp_path / 'config.json'}")
    assert resolve(config, [("tokenizer.vocab_size", "300")]).model == nanochat.model_of(size)
    assert nanochat.size_of(nanochat.model_of(TINY), 13) == TINY


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Size)])
def test_every_field_of_the_file_is_required(name: str, tmp_path: Path):
    values = dataclasses.asdict(TINY)
    del values[name]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"{name} is missing"):
        nanochat.read(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_embd": "16"}, "n_embd='16': a value of type int is required"),
        ({"n_layer": 0}, "n_layer=0 must be greater than 0"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"n_kv_head": 3}, "model.n_head=4 is not a multiple of model.n_kv_head=3"),
        ({"n_embed": 16}, "'n_embed' is not known; did you mean 'n_embd'"),
    ],
)
def test_what_the_file_cannot_mean_is_refused(changes: dict[str, Any], words: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(TINY) | changes))
    with pytest.raises(ConfigError, match=words):
        nanochat.read(tmp_path / "config.json")


def test_a_file_that_is_no_json_and_switches_that_have_no_word_are_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        nanochat.read(tmp_path / "config.json")
    with pytest.raises(ConfigError) as refused:
        nanochat.size_of(gpt.Config(), 13)
    named = {problem.split("=")[0] for problem in refused.value.problems}
    assert named == {"model.embed_norm", "model.qkv_clamp", "model.logit_clamp", "model.init"}


def logits_of(params: Any, **switches: Any) -> np.ndarray:
    config = dataclasses.replace(nanochat.model_of(TINY), **switches)
    model = gpt.build(config, TINY.vocab_size, unroll=1)
    tokens_BT = np.arange(12).reshape(1, 12)
    run = quick_jit(lambda p: model.unembed(p, model.apply(p, tokens_BT).hidden_BTD))
    return np.asarray(run(params))


@functools.cache
def params_of() -> Any:
    return quick_jit(gpt.build(nanochat.model_of(TINY), 13).init)(jax.random.key(0))


def test_logits_are_clamped_then_capped_and_the_last_clamp_of_the_original_changes_nothing():
    loud = {**params_of(), "w_head": params_of()["w_head"] * 200}
    free = logits_of(loud, logit_clamp=0.0, logit_softcap=0.0)
    found = logits_of(loud)
    assert np.abs(free).max() > 60
    once = 15 * np.tanh(np.clip(free, -50, 50) / 15)
    np.testing.assert_allclose(found, once, atol=1e-4)
    np.testing.assert_array_equal(np.clip(found, -50, 50), found)
    # A low clamp shows the order: the other way around, 2 would be kept.
    low = logits_of(loud, logit_clamp=2.0)
    assert np.abs(low).max() == pytest.approx(15 * np.tanh(2 / 15), rel=1e-5)


def test_kaiming_is_uniform_with_a_gain_of_one_half_the_head_included():
    params = params_of()
    reading = [
        params["w_head"],
        params["layers"]["attention"]["w_q"],
        params["layers"]["mlp"]["w_up"],
    ]
    for leaf in reading:
        bound = 0.5 * np.sqrt(3 / TINY.n_embd)
        assert 0.9 * bound < float(jnp.abs(leaf).max()) <= bound
    assert float(jnp.std(params["w_embed"])) == pytest.approx(1, rel=0.2)


def test_a_new_model_is_near_ln_v():
    logits = logits_of(params_of())
    logp = np.asarray(jax.nn.log_softmax(logits))[0, :-1]
    loss = -logp[np.arange(11), np.arange(1, 12)].mean()
    # Logits of variance 1/4 and a normed stream: an eighth of a nat above, give or take.
    assert loss == pytest.approx(np.log(TINY.vocab_size), abs=0.35)
    assert np.isfinite(logits).all()
