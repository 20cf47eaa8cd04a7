"""A pass over one prompt: the padded row, the sites on its way, and programs compiled once.

It looks at nothing itself. Programs are keyed by a model's own functions, which hash by identity:
one model, one set of programs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from nanogpt_jax.interface import Array, LanguageModel, Params

Apply = Callable[..., Any]
Unembed = Callable[[Params, Array], Array]


def pad(tokens: Sequence[int], padded_length: int | None) -> np.ndarray:
    """The prompt as a batch of one, zeros behind it."""
    T = len(tokens)
    if T == 0:
        raise ValueError("found an empty prompt; inspection needs at least one token")
    if padded_length is None:
        padded_length = T
    if padded_length < T:
        raise ValueError(
            f"found {T} tokens for padded_length={padded_length}; shorten the prompt or pad more"
        )
    return np.pad(np.asarray(tokens, np.int32), (0, padded_length - T))[None]


def site_shape(model: LanguageModel, params: Params, site: str) -> tuple[int, ...]:
    """The shape of a site's value for one token, with its leading layer axis."""
    if "layers" not in params:
        raise ValueError(f"a model without layers has no site {site!r}; inspect it with `predict`")
    shapes = observe.eval_shape(model.apply, (site,), params, np.zeros((1, 1), np.int32))[1]
    return shapes[site].shape


@functools.partial(jax.jit, static_argnums=(0, 1))
def observe(
    apply: Apply, sites: tuple[str, ...], params: Params, row_1T: Array
) -> tuple[Array, dict[str, Array]]:
    """The hidden state, and what the sites hold."""
    output = apply(params, row_1T, capture=sites)
    return output.hidden_BTD, output.captured
