"""Stand-ins that several tests share: a model of a few numbers, and a count of compilations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.interface import Array, Batch, Key, LanguageModel, ModelOutput, Params
from nanogpt_jax.optim import optimizers
from nanogpt_jax.step import Recipe
from nanogpt_jax.tokenization import Tokens

BOS = 99


class Numbers:
    """Tokens 0 to 98 are written "0 " to "98 ", and 99 is BOS."""

    kind = "numbers"
    bos_id = BOS
    token_bytes = (*(f"{number} ".encode() for number in range(BOS)), b"")

    def encode(self, text: str) -> Tokens:
        return np.array([int(word) for word in text.split()], np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        return [self.encode(text) for text in texts]


NUMBERS: Any = Numbers()

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compile_events() -> Iterator[list[str]]:
    """A list that grows by one for every program that XLA compiles inside the block."""
    seen: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        del duration_secs
        if event == COMPILE_EVENT:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def fake_model(
    vocab_size: int = 11,
    *,
    d_model: int = 4,
    d_hidden: int = 6,
    n_layer: int = 2,
    dtype: Any = jnp.float32,
) -> LanguageModel:
    """A stack of tanh layers with a parameter of every role; one token sees only itself.

    Its parameters are the same for every key, because NumPy draws them: a generator of JAX would
    cost each test a second of compilation. A dropout key scales the whole hidden state by one
    random number.
    """
    V, D, F, L = vocab_size, d_model, d_hidden, n_layer
    axes = {
        "w_embed": ("vocab", "embed"),
        "w_head": ("embed", "vocab"),
        "layers": {
            "w_in": ("layers", "embed", "mlp"),
            "b_in": ("layers", "mlp"),
            "w_out": ("layers", "mlp", "embed"),
            "gain": ("layers", "embed"),
        },
    }

    def init(key: Key) -> Params:
        del key
        rng = np.random.default_rng(0)

        def draw(*shape: int) -> Array:
            return jnp.asarray(rng.normal(size=shape) / 2, dtype)

        layers = {"w_in": draw(L, D, F), "b_in": draw(L, F), "w_out": draw(L, F, D)}
        layers["gain"] = draw(L, D)
        return {"w_embed": draw(V, D), "w_head": draw(D, V), "layers": layers}

    def apply(
        params: Params,
        inputs_BT: Array,
        *,
        segments_BT: Array | None = None,
        weights_BT: Array | None = None,
        dropout_key: Key | None = None,
    ) -> ModelOutput:
        del segments_BT, weights_BT
        x_BTD = params["w_embed"][inputs_BT]
        for index in range(n_layer):
            own = {name: leaf[index] for name, leaf in params["layers"].items()}
            h_BTF = jnp.tanh((x_BTD * own["gain"]) @ own["w_in"] + own["b_in"])
            x_BTD = x_BTD + h_BTF @ own["w_out"]
        if dropout_key is not None:
            x_BTD = x_BTD * jax.random.uniform(dropout_key, dtype=x_BTD.dtype)
        return ModelOutput(x_BTD, None, {}, {})

    def unembed(params: Params, hidden: Array) -> Array:
        return hidden @ params["w_head"]

    return LanguageModel(init, apply, unembed, axes, None)


def fake_batch(rows: int = 4, length: int = 5, vocab_size: int = 11, seed: int = 0) -> Batch:
    """Random tokens; about a third of the weights, other ones in every row, are 0."""
    rng = np.random.default_rng(seed)
    inputs, targets = rng.integers(0, vocab_size, (2, rows, length), dtype=np.int32)
    return Batch(inputs, targets, (rng.random((rows, length)) < 0.66).astype(np.float32))


def hyper_of(optimizer: str, **changed: float) -> dict[str, Any]:
    """The defaults of an optimizer under a constant schedule, with `changed` numbers."""
    numbers = {
        name: field.default
        for name, field in optimizers.fields(optimizer).items()
        if field.kind is float
    }
    top = {"learning_rate": 0.01, "clip_norm": 0.0, "init_scale": 1.0}
    assert set(changed) <= set(top) | set(numbers)
    tree = {
        **{name: changed.get(name, value) for name, value in top.items()},
        "optimizer": {name: changed.get(name, value) for name, value in numbers.items()},
        "schedule": {"total_steps": 1000, "min_ratio": 1.0},
    }
    return jax.tree.map(np.float32, tree)


def recipe_of(optimizer: str, model: LanguageModel, vocab_size: int = 11, **more: Any) -> Recipe:
    """A recipe with a constant schedule and the optimizer's own switches."""
    return Recipe(
        model=model, vocab_size=vocab_size, optimizer=optimizer, schedule="constant", **more
    )
