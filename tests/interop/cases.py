"""Small models of every class, with parameters large enough that each part of them matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nanogpt_jax import tokenization
from nanogpt_jax.interface import Array, LanguageModel, Params
from nanogpt_jax.interop import Family, family_of, write_pretrained
from nanogpt_jax.models.gpt import Config, build
from nanogpt_jax.tokenization import Options, Tokenizer

SMALL = {"n_layer": 2, "n_head": 4, "d_model": 32, "max_seq_len": 48}
LLAMA = {
    "activation": "swiglu",
    "norm_gain": True,
    "embed_norm": False,
    "qk_norm": "off",
    "logit_softcap": 0.0,
}
QWEN3 = LLAMA | {"qk_norm": "before_rope_gain"}
GPT2 = {
    "norm": "layer",
    "norm_gain": True,
    "norm_eps": 1e-5,
    "embed_norm": False,
    "positions": "learned",
    "qk_norm": "off",
    "activation": "gelu_tanh",
    "bias": True,
    "tied_head": True,
    "logit_softcap": 0.0,
    "init": "gpt2",
}


class Case(NamedTuple):
    """A config that a class carries, and a number of tokens."""

    architecture: str
    fields: dict[str, Any]
    vocab_size: int

    @property
    def config(self) -> Config:
        return Config(**SMALL | self.fields)


CASES = {
    "nanochat-grouped-odd-vocabulary": Case(
        "NanoChatForCausalLM", {"n_kv_head": 2, "n_layer": 3, "d_hidden": 56}, 37
    ),
    "nanochat-multi-query-tied": Case(
        "NanoChatForCausalLM", {"n_kv_head": 1, "tied_head": True}, 50
    ),
    "nanochat-one-head-no-cap": Case(
        "NanoChatForCausalLM",
        {"n_head": 1, "n_layer": 1, "logit_softcap": 0.0, "activation": "gelu_tanh"},
        64,
    ),
    "nanochat-base-500-cap-4": Case(
        "NanoChatForCausalLM", {"rope_base": 500.0, "logit_softcap": 4.0, "activation": "gelu"}, 64
    ),
    "llama-multi-head": Case("LlamaForCausalLM", LLAMA, 41),
    "llama-multi-query-biases-tied": Case(
        "LlamaForCausalLM",
        LLAMA | {"n_kv_head": 1, "bias": True, "tied_head": True, "rope_base": 500.0},
        33,
    ),
    "qwen3-grouped": Case("Qwen3ForCausalLM", QWEN3 | {"n_kv_head": 2, "d_hidden": 72}, 53),
    "qwen3-one-head-tied": Case("Qwen3ForCausalLM", QWEN3 | {"n_head": 1, "tied_head": True}, 29),
    "gpt2-classic": Case("GPT2LMHeadModel", GPT2, 41),
    "gpt2-one-head-untied": Case(
        "GPT2LMHeadModel",
        GPT2 | {"n_head": 1, "tied_head": False, "activation": "relu", "d_hidden": 40},
        67,
    ),
}


class Made(NamedTuple):
    """A case that is built: its class, its model and its parameters."""

    family: Family
    config: Config
    model: LanguageModel
    params: Params
    shapes: Params


def make(case: Case) -> Made:
    """The model of a case; the same parameters every time."""
    model = build(case.config, case.vocab_size)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    noise = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: noise.normal(scale=0.2, size=leaf.shape), shapes)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
    return Made(family_of("gpt", case.config), case.config, model, params, shapes)


def learn(kind: str = "bpe", special_tokens: Any = "chat") -> Tokenizer:
    """A tokenizer of a few words."""
    text = "Where is the ball? It is in the red box.\nWho has it?\tNobody — 12 of 345 do.\n"
    options = Options(special_tokens=special_tokens)
    return tokenization.train(kind, [text * 3], 300, options)


def write(folder: Path, case: Case, tokenizer: Tokenizer) -> Made:
    """The case with the vocabulary of `tokenizer`, in a folder of transformers' form."""
    made = make(case._replace(vocab_size=tokenizer.vocab_size))
    write_pretrained(folder, "gpt", made.config, made.model, made.params, tokenizer)
    return made


def logits_of(made: Made, params: Params, tokens_BT: np.ndarray) -> Array:
    """Our logits."""
    return made.model.unembed(params, made.model.apply(params, tokens_BT).hidden_BTD)


def assert_equal(found: Params, wanted: Params) -> None:
    """Both trees have the same leaves, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
