"""What a part of a model is for: ablation, and activation patching between two prompts.

A sweep is one compiled program that runs once for each part, and once more as it is: so what is
compared differs in the edit alone. Weights are never changed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax.inspection.passes import Apply, Unembed, observe, pad, site_shape
from nanogpt_jax.interface import Array, Edit, Edits, LanguageModel, Params

# Edited runs side by side; the logits of all of them exist at once.
RUNS_AT_ONCE = 4


class HeadAblation(NamedTuple):
    """Losses of the prompt's tokens, as they are and without each head."""

    nats_P: np.ndarray
    without_nats_LHP: np.ndarray


class MLPAblation(NamedTuple):
    """Losses of the prompt's tokens, as they are and without the MLP of each layer."""

    nats_P: np.ndarray
    without_nats_LP: np.ndarray


class Patching(NamedTuple):
    """Log-probability of `answer` after each prompt, and after the corrupted one when patched."""

    answer: int
    clean: float
    corrupted: float
    patched: np.ndarray  # LT or LH: what is patched


def silence(
    model: LanguageModel,
    params: Params,
    *,
    heads: Iterable[tuple[int, int]] | None = None,
    mlps: Iterable[int] | None = None,
) -> Edits:
    """Edits that zero the (layer, head) pairs and the layers' MLPs, for `predict`.

    A list may change or be empty without compiling anything; None leaves its site out.
    """
    edits = {}
    if heads is not None:
        L, _, H, *_ = site_shape(model, params, "head_out")
        edits["head_out"] = _zero(_mark("(layer, head)", heads, (L, H))[:, None, :, None, None])
    if mlps is not None:
        L = site_shape(model, params, "mlp_out")[0]
        layers = ((layer,) for layer in mlps)
        edits["mlp_out"] = _zero(_mark("(layer,)", layers, (L,))[:, None, None, None])
    return edits


def ablate_heads(
    model: LanguageModel, params: Params, tokens: Sequence[int], *, padded_length: int | None = None
) -> HeadAblation:
    """Losses when one head after the other gives zeros (Michel et al. 2019, arXiv:1905.10650)."""
    L, _, H, *_ = site_shape(model, params, "head_out")
    nats_NP = _ablate(model, params, tokens, "head_out", (L, 1, H, 1, 1), padded_length)
    return HeadAblation(nats_NP[-1], nats_NP[:-1].reshape(L, H, -1))


def ablate_mlps(
    model: LanguageModel, params: Params, tokens: Sequence[int], *, padded_length: int | None = None
) -> MLPAblation:
    """Losses when the MLP, or all experts, of one layer after the other give zeros."""
    L = site_shape(model, params, "mlp_out")[0]
    nats_NP = _ablate(model, params, tokens, "mlp_out", (L, 1, 1, 1), padded_length)
    return MLPAblation(nats_NP[-1], nats_NP[:-1])


def patch_positions(
    model: LanguageModel,
    params: Params,
    clean: Sequence[int],
    corrupted: Sequence[int],
    *,
    site: str = "residual",
    answer: int | None = None,
    padded_length: int | None = None,
) -> Patching:
    """Which states carry the answer: causal tracing (Meng et al. 2022, arXiv:2202.05262).

    `corrupted` runs once for each layer and position, where `site` gets the value that it has in
    `clean`; so `patched` is LT. `answer` follows the whole prompt and is what `clean` makes
    likeliest, unless given. Prompts of two lengths are a ValueError.
    """
    L, *rest = site_shape(model, params, site)
    T, padded_T = len(clean), padded_length or len(clean)
    # The positions stand last but one at every site.
    grid = (L, *(1 for _ in rest[:-2]), padded_T, 1)
    found = _patch(model, params, clean, corrupted, site, grid, answer, padded_length)
    return found._replace(patched=found.patched.reshape(L, padded_T)[:, :T])


def patch_heads(
    model: LanguageModel,
    params: Params,
    clean: Sequence[int],
    corrupted: Sequence[int],
    *,
    answer: int | None = None,
    padded_length: int | None = None,
) -> Patching:
    """As `patch_positions`, with one head restored at all positions, so `patched` is LH."""
    L, _, H, *_ = site_shape(model, params, "head_out")
    grid = (L, 1, H, 1, 1)
    found = _patch(model, params, clean, corrupted, "head_out", grid, answer, padded_length)
    return found._replace(patched=found.patched.reshape(L, H))


def _mark(what: str, chosen: Iterable[tuple[int, ...]], sizes: tuple[int, ...]) -> np.ndarray:
    """A mask of `sizes`, true where chosen."""
    marked = np.zeros(sizes, bool)
    for place in chosen:
        if len(place) != len(sizes) or not all(
            0 <= index < size for index, size in zip(place, sizes, strict=True)
        ):
            raise ValueError(f"found {what}={place}; the model has {sizes}, counted from 0")
        marked[place] = True
    return marked


def _zero(replace: np.ndarray) -> Edit:
    return Edit(jnp.asarray(replace), jnp.zeros(replace.shape))


def _ablate(
    model: LanguageModel,
    params: Params,
    tokens: Sequence[int],
    site: str,
    grid: tuple[int, ...],
    padded_length: int | None,
) -> np.ndarray:
    """nats_NP of the prompt's tokens with each cell of the grid at zero, the plain run last."""
    row_1T = pad(tokens, padded_length)
    at_T, targets_T = np.arange(row_1T.size), np.roll(row_1T[0], -1)
    nothing = np.zeros([grid[0], *(1 for _ in grid[1:])], np.float32)
    run = functools.partial(_sweep, model.apply, model.unembed, site, grid)
    return -np.asarray(run(params, row_1T, nothing, at_T, targets_T))[:, : len(tokens) - 1]


def _patch(
    model: LanguageModel,
    params: Params,
    clean: Sequence[int],
    corrupted: Sequence[int],
    site: str,
    grid: tuple[int, ...],
    answer: int | None,
    padded_length: int | None,
) -> Patching:
    """The answer's log-probability for each cell of the grid, flat."""
    if len(clean) != len(corrupted):
        raise ValueError(
            f"found {len(clean)} clean and {len(corrupted)} corrupted tokens; patching needs "
            "prompts of one length, so that positions correspond"
        )
    clean_1T, corrupted_1T = pad(clean, padded_length), pad(corrupted, padded_length)
    last = np.array([len(clean) - 1])
    hidden_BTD, captured = observe(model.apply, (site,), params, clean_1T)
    logprobs_V = np.asarray(_logprobs(model.unembed, params, hidden_BTD, last))[0]
    if answer is None:
        answer = int(logprobs_V.argmax())
    elif not 0 <= answer < logprobs_V.size:
        raise ValueError(f"found answer={answer}; the vocabulary has {logprobs_V.size} tokens")
    run = functools.partial(_sweep, model.apply, model.unembed, site, grid)
    targets_P = np.array([answer])
    patched_N = np.ravel(run(params, corrupted_1T, captured[site], last, targets_P))
    return Patching(answer, float(logprobs_V[answer]), float(patched_N[-1]), patched_N[:-1])


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(unembed: Unembed, params: Params, hidden_1TD: Array, at_P: Array) -> Array:
    """logprobs_PV of the next token at some positions."""
    return jax.nn.log_softmax(unembed(params, hidden_1TD[0, at_P]))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sweep(
    apply: Apply,
    unembed: Unembed,
    site: str,
    grid: tuple[int, ...],
    params: Params,
    row_1T: Array,
    value: Array,
    at_P: Array,
    targets_P: Array,
) -> Array:
    """logprobs_NP of targets: a run for each cell of `grid`, which gets `value`; one without."""
    cells = math.prod(grid)

    def run(cell: Array) -> Array:
        replace = (jnp.arange(cells) == cell).reshape(grid)
        hidden_1TD = apply(params, row_1T, edits={site: Edit(replace, value)}).hidden_BTD
        logprobs_PV = _logprobs(unembed, params, hidden_1TD, at_P)
        return jnp.take_along_axis(logprobs_PV, targets_P[:, None], axis=-1)[:, 0]

    # Whole groups, because what is left over would be compiled as a loop body of its own; the runs
    # past the last cell edit nothing.
    groups = math.ceil((cells + 1) / RUNS_AT_ONCE)
    logprobs_NP = jax.lax.map(run, jnp.arange(groups * RUNS_AT_ONCE), batch_size=RUNS_AT_ONCE)
    return logprobs_NP[: cells + 1]
