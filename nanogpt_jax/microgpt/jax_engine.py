"""The GPT of `scalar` as pure functions of its weights: slopes by `jax.grad`, training in one scan.

Documents are padded to the longest context, so that every step has the same shapes and the whole
training is one compiled program. It runs in float64, as the other two engines do, and leaves the
precision of other JAX code in the process as it is.

Shapes live in names: N steps, T query position, S key position, D width, H heads, C = D / H,
V vocabulary. A weight has one row an output, so it multiplies transposed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.microgpt.scalar import Numbers, Reader, Settings

Array = jax.Array
Weights = dict[str, Array]


class Window(NamedTuple):
    """A document, padded; with a leading N, all of them. Targets share the loss, padding has 0."""

    inputs_T: Array
    targets_T: Array
    shares_T: Array


def pad(windows: Sequence[list[int]], T: int) -> Window:
    """All windows with the arrays NT."""
    shape = (len(windows), T)
    inputs_NT, targets_NT, shares_NT = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape)
    for row, tokens in enumerate(windows):
        length = len(tokens) - 1
        inputs_NT[row, :length] = tokens[:-1]
        targets_NT[row, :length] = tokens[1:]
        shares_NT[row, :length] = 1 / length
    return Window(jnp.array(inputs_NT), jnp.array(targets_NT), jnp.array(shares_NT))


def rms_norm(x_TD: Array) -> Array:
    """x / sqrt(mean(x²) + 1e-5) (Zhang and Sennrich 2019, arXiv:1910.07467, without the gain)."""
    return x_TD * (jnp.mean(x_TD**2, axis=-1, keepdims=True) + 1e-5) ** -0.5


def attend(q_TD: Array, k_TD: Array, v_TD: Array, n_head: int) -> Array:
    """softmax(q kᵀ / √C) v over the keys up to each query, head by head."""
    T, D = q_TD.shape
    q_THC, k_SHC, v_SHC = (x_TD.reshape(T, n_head, -1) for x_TD in (q_TD, k_TD, v_TD))
    scores_HTS = jnp.einsum("THC,SHC->HTS", q_THC, k_SHC) / (D // n_head) ** 0.5
    p_HTS = jax.nn.softmax(jnp.where(jnp.tri(T, dtype=bool), scores_HTS, -jnp.inf), axis=-1)
    return jnp.einsum("HTS,SHC->THC", p_HTS, v_SHC).reshape(T, D)


def forward(w: Weights, inputs_T: Array, settings: Settings) -> Array:
    """Logits_TV of what follows each input."""
    x_TD = rms_norm(w["wte"][inputs_T] + w["wpe"])
    for i in range(settings.n_layer):
        names = ("wq", "wk", "wv", "wo", "fc1", "fc2")
        wq, wk, wv, wo, fc1, fc2 = (w[f"layer{i}.{name}"] for name in names)
        n_TD = rms_norm(x_TD)
        x_TD += attend(n_TD @ wq.T, n_TD @ wk.T, n_TD @ wv.T, settings.n_head) @ wo.T
        x_TD += jax.nn.relu(rms_norm(x_TD) @ fc1.T) @ fc2.T
    return x_TD @ w["lm_head"].T


def loss(w: Weights, window: Window, settings: Settings) -> Array:
    """The mean of -log softmax(logits)[target] over a document's targets, in nats."""
    log_p_TV = jax.nn.log_softmax(forward(w, window.inputs_T, settings), axis=-1)
    log_p_T = jnp.take_along_axis(log_p_TV, window.targets_T[:, None], axis=-1)[:, 0]
    return -jnp.sum(log_p_T * window.shares_T)


@partial(jax.jit, static_argnames="settings")
def fit(weights: Weights, windows_N: Window, settings: Settings) -> tuple[Weights, Array]:
    """The weights after one update of Adam (Kingma and Ba 2014) a window, and losses_N."""
    steps_N = jnp.arange(len(windows_N.shares_T))

    def update(
        state: tuple[Weights, Weights, Weights], step_and_window: tuple[Array, Window]
    ) -> tuple[tuple[Weights, Weights, Weights], Array]:
        (w, means, squares), (step, window) = state, step_and_window
        nats, gradients = jax.value_and_grad(loss)(w, window, settings)
        means = jax.tree.map(lambda m, g: 0.85 * m + 0.15 * g, means, gradients)
        squares = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g**2, squares, gradients)
        rate = settings.learning_rate * (1 - step / len(steps_N))

        def move(w: Array, m: Array, s: Array) -> Array:
            mean, square = m / (1 - 0.85 ** (step + 1)), s / (1 - 0.99 ** (step + 1))
            return w - rate * mean / (jnp.sqrt(square) + 1e-8)

        return (jax.tree.map(move, w, means, squares), means, squares), nats

    zeros = jax.tree.map(jnp.zeros_like, weights)
    (weights, _, _), losses_N = jax.lax.scan(update, (weights, zeros, zeros), (steps_N, windows_N))
    return weights, losses_N


@partial(jax.jit, static_argnames="settings")
def logits_after(w: Weights, inputs_T: Array, position: int, settings: Settings) -> Array:
    """Logits_V of what follows the input at a position; those after it are not looked at."""
    return forward(w, inputs_T, settings)[position]


class GPT:
    """The weights, how they are trained, and how they are read: what is not pure."""

    def __init__(self, numbers: Numbers, settings: Settings):
        self.settings = settings
        with jax.enable_x64(True):
            self.weights: Weights = {name: jnp.array(rows) for name, rows in numbers.items()}

    def train(self, windows: Sequence[list[int]]) -> Iterator[float]:
        """Trains on all windows, one update each, and then yields each loss."""
        with jax.enable_x64(True):  # not around the yields: the caller's code would be in it
            padded = pad(windows, self.settings.block_size)
            self.weights, losses_N = fit(self.weights, padded, self.settings)
        yield from np.asarray(losses_N).tolist()

    def reader(self) -> Reader:
        """A function that is told a document, token by token, and scores each time what follows."""
        tokens: list[int] = []

        def read(token: int) -> list[float]:
            tokens.append(token)
            padding = [0] * (self.settings.block_size - len(tokens))
            with jax.enable_x64(True):
                inputs_T = jnp.array([*tokens, *padding])
                logits_V = logits_after(self.weights, inputs_T, len(tokens) - 1, self.settings)
            return np.asarray(logits_V).tolist()

        return read
