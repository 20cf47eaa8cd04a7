"""Decoding on the device: prompts are read in one pass, then rows of a batch go on with a cache.

Whatever the prompts and settings, few programs are compiled: reading (one for each length, rounded
up to a power of two), beginning a row, a step, and a step that checks drafts. What belongs to a row
is data, so the rows of one batch may be of different requests, stand at different positions, and
come and go; `slots` keeps the books of that on the host. Which token is drawn, sampling.py says.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.interface import Array, KVCache, LanguageModel, Params
from nanogpt_jax.layers import split_layers
from nanogpt_jax.sampling import Rows, Sampling, draw, likeliest, mark_seen, rows

# Shorter prompts are read as if they were so long: compiling costs more than reading.
LEAST_READ = 16
# Likeliest tokens that a draw can list beside the one it takes.
MOST_ALTERNATIVES = 20


class State(NamedTuple):
    """What B rows hold on the device; a row of it is all that its request needs to go on.

    `token_B` was drawn last and is not yet read, `index_B` counts the tokens drawn. `draft` is
    what a proposer remembers of each row.
    """

    token_B: Array
    index_B: Array
    settings: Rows
    seen_BV: Array
    cache: KVCache | None
    draft: Any = None


class Draws(NamedTuple):
    """The tokens that a step drew: the first `count_B` of each row hold.

    `others_BTA` are the likeliest tokens in each place, zeros where nobody asked for them.
    """

    tokens_BT: Array
    logprobs_BT: Array
    others_BTA: Array
    other_logprobs_BTA: Array
    count_B: Array


class Start(NamedTuple):
    """How a row begins, beside the prompt that was read: B = 1."""

    settings: Rows
    index_B: Any
    seen_BV: Any
    draft: Any = None


class Decoding:
    """The programs of one model, for parameters as training leaves them or from `prepare`."""

    def __init__(self, model: LanguageModel, context_length: int):
        self.context_length = context_length
        self._model = model
        self._read = jax.jit(self._read_prompts)
        self._begin = jax.jit(_begin, donate_argnums=0)
        self._step = jax.jit(self._advance_rows, donate_argnums=1)

    @property
    def cached(self) -> bool:
        """Whether the model keeps a cache; else every token reads the whole window."""
        return self._model.empty_cache is not None

    @functools.cached_property
    def vocab_size(self) -> int:
        """The number of logits."""

        def logits(key: Array) -> Array:
            params = self._model.init(key)
            return self._model.unembed(
                params, self._model.apply(params, jnp.zeros((1, 1), int)).hidden_BTD
            )

        return jax.eval_shape(logits, jax.random.key(0)).shape[-1]

    @staticmethod
    def prepare(params: Params) -> Params:
        """The parameters with a tree per layer: slicing stacked weights for every token is slow."""
        if "layers" not in params or isinstance(params["layers"], tuple):
            return params
        n_layer = jax.tree.leaves(params["layers"])[0].shape[0]
        return {**params, "layers": split_layers(params["layers"], n_layer)}

    def lengths(self) -> list[int]:
        """The lengths to which prompts are padded: one program each."""
        found = [min(LEAST_READ, self.context_length)]
        while found[-1] < self.context_length:
            found.append(min(2 * found[-1], self.context_length))
        return found

    def read(
        self, params: Params, prompts: Sequence[Sequence[int]]
    ) -> tuple[Array, KVCache | None]:
        """Logits after each prompt, and the cache that holds it; long prompts lose their start."""
        kept = [prompt[-self.context_length :] for prompt in prompts]
        lengths_B = np.array([len(prompt) for prompt in kept], np.int32)
        if lengths_B.min() == 0:
            raise ValueError("an empty prompt: at least one token is required, such as BOS")
        length = next(length for length in self.lengths() if length >= lengths_B.max())
        tokens_BT = np.zeros((len(kept), length), np.int32)
        for row, prompt in enumerate(kept):
            tokens_BT[row, : len(prompt)] = prompt
        return self._read(params, tokens_BT, lengths_B)

    def advance(self, params: Params, cache: KVCache, token_B: Array) -> tuple[Array, KVCache]:
        """Logits after one more token a row, and the cache that holds it; not compiled here."""
        output = self._model.apply(params, token_B[:, None], cache=cache)
        assert output.cache is not None  # a cache goes in, so one comes out
        return self._model.unembed(params, output.hidden_BTD[:, 0]), output.cache

    def empty(self, count: int, draft: Any = None) -> State:
        """The state of `count` rows that nobody uses; `draft` is a proposer's."""
        cache = None
        if self._model.empty_cache is not None:
            cache = self._model.empty_cache(count, self.context_length)
        # Not one array twice: a program that uses the state up can do so once.
        token_B, index_B = jnp.zeros(count, jnp.int32), jnp.zeros(count, jnp.int32)
        seen_BV = jnp.zeros((count, self.vocab_size), bool)
        return State(token_B, index_B, rows([Sampling()] * count), seen_BV, cache, draft)

    def begin(
        self,
        state: State,
        row: int,
        logits_1V: Array,
        cache: KVCache | None,
        start: Start,
        *,
        listing: bool,
    ) -> tuple[Draws, State]:
        """The first token after what was read, drawn, and all of it put into `row` of `state`.

        `state` is used up. `listing` asks for the likeliest tokens.
        """
        return self._begin(state, np.int32(row), logits_1V, cache, start, np.bool_(listing))

    def step(
        self,
        params: Params,
        state: State,
        active_B: np.ndarray,
        drafts_BK: Any,
        drafted_B: Any,
        *,
        listing: bool,
    ) -> tuple[Draws, State]:
        """Each active row reads its last token and as many of its drafts as the model draws itself.

        So it draws one token more than drafts hold: those that it would have drawn without them.
        `drafted_B` says how many of `drafts_BK` a row has; there must be room for K + 1 positions
        in the cache of every active row. `state` is used up.
        """
        return self._step(params, state, active_B, drafts_BK, drafted_B, np.bool_(listing))

    def _read_prompts(
        self, params: Params, tokens_BT: Array, lengths_B: Array
    ) -> tuple[Array, KVCache | None]:
        B, cache = len(lengths_B), None
        if self._model.empty_cache is not None:
            cache = self._model.empty_cache(B, self.context_length)
        output = self._model.apply(params, tokens_BT, cache=cache)
        hidden_BD = output.hidden_BTD[jnp.arange(B), lengths_B - 1]
        if output.cache is not None:
            # Keys of the padding lie beyond each length: masked until a token overwrites them.
            cache = output.cache._replace(length_B=lengths_B)
        return self._model.unembed(params, hidden_BD), cache

    def _advance_rows(
        self,
        params: Params,
        state: State,
        active_B: Array,
        drafts_BK: Array,
        drafted_B: Array,
        listing: Array,
    ) -> tuple[Draws, State]:
        tokens_BT = jnp.concatenate([state.token_B[:, None], drafts_BK], axis=1)
        output = self._model.apply(params, tokens_BT, cache=state.cache)
        logits_BTV = self._model.unembed(params, output.hidden_BTD)
        B, T, V = logits_BTV.shape
        seen_BTV = state.seen_BV[:, None] | _read_before(drafts_BK, V)
        index_BT = state.index_B[:, None] + jnp.arange(T)
        settings = jax.tree.map(lambda setting_B: jnp.repeat(setting_B, T), state.settings)
        draws = _draw(
            logits_BTV.reshape(B * T, V),
            settings,
            index_BT.reshape(-1),
            seen_BTV.reshape(B * T, V),
            listing,
        )
        tokens, *rest = (each.reshape(B, T, *each.shape[1:]) for each in draws)
        # A draft holds where it is the token that is drawn in its place, and all before it hold.
        holds_BK = (tokens[:, :-1] == drafts_BK) & (jnp.arange(T - 1) < drafted_B[:, None])
        held_B = jnp.sum(jnp.cumprod(holds_BK, axis=1, dtype=jnp.int32), axis=1)
        count_B = jnp.where(active_B, held_B + 1, 0)
        last_B = jnp.take_along_axis(tokens, held_B[:, None], axis=1)[:, 0]
        seen_BV = jnp.take_along_axis(seen_BTV, held_B[:, None, None], axis=1)[:, 0]
        assert state.cache is not None and output.cache is not None
        # Keys of drafts that did not hold lie beyond the length, as those of padding do.
        cache = output.cache._replace(length_B=state.cache.length_B + count_B)
        state = state._replace(
            token_B=jnp.where(active_B, last_B, state.token_B),
            index_B=state.index_B + count_B,
            seen_BV=mark_seen(seen_BV, last_B),
            cache=cache,
        )
        return Draws(tokens, *rest, count_B=count_B), state


def _read_before(drafts_BK: Array, vocab_size: int) -> Array:
    """BTV: whether a token is among the drafts before place t, T = K + 1."""
    ones_BKV = jax.nn.one_hot(drafts_BK, vocab_size, dtype=jnp.int32)
    return jnp.pad(jnp.cumsum(ones_BKV, axis=1), ((0, 0), (1, 0), (0, 0))) > 0


def _begin(
    state: State,
    row: Array,
    logits_1V: Array,
    cache: KVCache | None,
    start: Start,
    listing: Array,
) -> tuple[Draws, State]:
    drawn = _draw(logits_1V, start.settings, start.index_B, start.seen_BV, listing)
    seen_BV = mark_seen(start.seen_BV, drawn[0])
    begun = State(drawn[0], start.index_B + 1, start.settings, seen_BV, cache, start.draft)
    draws = Draws(*(each[:, None] for each in drawn), count_B=jnp.ones(1, jnp.int32))
    return draws, put(state, row, begun)


def _draw(
    logits_BV: Array, settings: Rows, index_B: Array, seen_BV: Array, listing: Array
) -> tuple[Array, Array, Array, Array]:
    """Tokens and log-probabilities, and those of the likeliest where `listing` is true."""
    token_B, logprob_B = draw(logits_BV, settings, index_B, seen_BV)
    listed = jax.eval_shape(lambda: likeliest(logits_BV, MOST_ALTERNATIVES))
    others_BA, other_logprobs_BA = jax.lax.cond(
        listing,
        lambda: likeliest(logits_BV, MOST_ALTERNATIVES),
        lambda: tuple(jnp.zeros(each.shape, each.dtype) for each in listed),
    )
    return token_B, logprob_B, others_BA, other_logprobs_BA


def put(state: State, row: Array, single: State) -> State:
    """`state` with the one row of `single` at `row`."""

    def write(whole: Array, one: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(whole, one.astype(whole.dtype), row, axis=0)

    return jax.tree.map(write, state, single)


def take(state: State, row: Array) -> State:
    """A copy of `row` of `state`."""
    return jax.tree.map(lambda whole: jax.lax.dynamic_slice_in_dim(whole, row, 1, axis=0), state)
