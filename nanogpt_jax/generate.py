"""Generation: a prompt is read in one pass, then one token a step with a key-value cache.

`Generator` compiles two programs, whatever the prompts and settings: reading (per length, rounded
up to a power of two) and a step. When the context is full, the window slides: every further token
reads the last `context_length` tokens anew, as a model without a cache would.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.interface import Array, KVCache, LanguageModel, Params
from nanogpt_jax.layers import split_layers
from nanogpt_jax.sampling import Rows, Sampling, draw, rows


class Drawn(NamedTuple):
    """One generated token and its log-probability under the unfiltered model."""

    token: int
    logprob: float


class Generator:
    """Generates with one model; parameters are given to each call, prepared by `prepare`."""

    def __init__(self, model: LanguageModel, context_length: int):
        self.context_length = context_length
        self._model = model
        self._read = jax.jit(self._read_prompts)
        self._step = jax.jit(self._draw_and_advance, donate_argnums=1)
        self._run = jax.jit(self._draw_many, static_argnums=4)

    @staticmethod
    def prepare(params: Params) -> Params:
        """The parameters with a tree per layer: slicing stacked weights for every token is slow."""
        if "layers" not in params or isinstance(params["layers"], tuple):
            return params
        n_layer = jax.tree.leaves(params["layers"])[0].shape[0]
        return {**params, "layers": split_layers(params["layers"], n_layer)}

    def stream(
        self,
        params: Params,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        max_tokens: int,
        stop: Collection[int] = (),
    ) -> Iterator[Drawn]:
        """Tokens as they are drawn, up to `max_tokens` or before one of `stop`."""
        params = self.prepare(params)
        settings = rows([sampling])
        tokens = list(prompt)
        logits_BV, cache = self._prefill(params, [tokens])
        for index in range(max_tokens):
            drawn, logprob = self._draw_one(logits_BV, settings, index)
            if drawn in stop:
                return
            yield Drawn(drawn, logprob)
            tokens.append(drawn)
            if len(tokens) > self.context_length:
                logits_BV, cache = self._prefill(params, [tokens[-self.context_length :]])
            elif index + 1 < max_tokens:
                logits_BV, cache = self._step(params, cache, jnp.array([drawn], jnp.int32))

    def complete(
        self,
        params: Params,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[Sampling],
        *,
        max_tokens: int,
        stop: int,
    ) -> list[list[int]]:
        """The continuation of every prompt before `stop`, all rows in one compiled loop.

        Prompt and continuation must fit into the context together.
        """
        longest = max(len(prompt) for prompt in prompts)
        if longest + max_tokens > self.context_length + 1:
            raise ValueError(
                f"{longest} prompt tokens and {max_tokens} more do not fit into the context of "
                f"{self.context_length}"
            )
        params = self.prepare(params)
        logits_BV, cache = self._prefill(params, prompts)
        tokens_NB = np.asarray(self._run(params, cache, logits_BV, rows(samplings), max_tokens))
        finished = []
        for column in tokens_NB.T.tolist():
            finished.append(column[: column.index(stop)] if stop in column else column)
        return finished

    def _prefill(self, params: Params, prompts: Sequence[Sequence[int]]) -> tuple[Array, KVCache]:
        """Logits after each prompt, and the cache that holds it; long prompts lose their start."""
        kept = [list(prompt)[-self.context_length :] for prompt in prompts]
        lengths = np.array([len(prompt) for prompt in kept], np.int32)
        if lengths.min() == 0:
            raise ValueError("an empty prompt: at least one token is required, such as BOS")
        padded = min(1 << int(lengths.max() - 1).bit_length(), self.context_length)
        tokens_BT = np.zeros((len(kept), max(padded, int(lengths.max()))), np.int32)
        for row, prompt in enumerate(kept):
            tokens_BT[row, : len(prompt)] = prompt
        return self._read(params, tokens_BT, lengths)

    def _read_prompts(
        self, params: Params, tokens_BT: Array, lengths_B: Array
    ) -> tuple[Array, KVCache]:
        empty = self._cache(tokens_BT.shape[0])
        output = self._model.apply(params, tokens_BT, cache=empty)
        hidden_BD = output.hidden_BTD[jnp.arange(len(lengths_B)), lengths_B - 1]
        # Keys of the padding lie beyond each length: masked until a token overwrites them.
        return self._model.unembed(params, hidden_BD), output.cache._replace(length_B=lengths_B)

    def _cache(self, batch: int) -> KVCache:
        if self._model.empty_cache is None:
            raise ValueError("this model keeps no cache and cannot generate step by step")
        return self._model.empty_cache(batch, self.context_length)

    def _draw_and_advance(
        self, params: Params, cache: KVCache, token_B: Array
    ) -> tuple[Array, KVCache]:
        output = self._model.apply(params, token_B[:, None], cache=cache)
        return self._model.unembed(params, output.hidden_BTD[:, 0]), output.cache

    def _draw_one(self, logits_BV: Array, settings: Rows, index: int) -> tuple[int, float]:
        token_B, logprob_B = _draw(logits_BV, settings, jnp.array([index], jnp.int32))
        return int(token_B[0]), float(logprob_B[0])

    def _draw_many(
        self, params: Params, cache: KVCache, logits_BV: Array, settings: Rows, count: int
    ) -> Array:
        def body(carry: tuple[Array, KVCache], index: Array) -> tuple[Any, Array]:
            logits_BV, cache = carry
            token_B, _ = draw(logits_BV, settings, jnp.full(logits_BV.shape[0], index))
            return self._draw_and_advance(params, cache, token_B), token_B

        return jax.lax.scan(body, (logits_BV, cache), jnp.arange(count))[1]


_draw = jax.jit(draw)
