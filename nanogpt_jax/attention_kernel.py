"""Who computes attention: cuDNN where it was seen to do it right on this device, else our own code.

The choice is made once, before a model is built, by running cuDNN's forward and backward pass on
the real shape of the heads; it travels as a static field from there to the layers. So nothing is
caught inside a step. What is not done here: timing kernels, and choosing by speed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from absl import logging

from nanogpt_jax import attention
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.interface import Array

Asked = Literal["auto", "own", "cudnn"]
# Largest relative error beside our own attention, of the values and of each gradient. In bfloat16
# two right answers differ by less than a hundredth; a wrong mask or scale by more than a tenth.
MOST_DEVIATION = 0.05
ROWS = 2  # so that a mask can differ between rows


class Kernel(NamedTuple):
    """Where cuDNN attends: at exactly `length` positions, with segments only if `masked`.

    Any other length is our own code's: cuDNN has not been seen at it.
    """

    length: int = 0
    masked: bool = False

    def attend(
        self, q_BHTC: Array, k_BKTC: Array, v_BKTC: Array, allowed_BTT: Array | None
    ) -> Array:
        """Causal attention; `allowed_BTT`, where there are segments, says who sees whom."""
        seen_to_work = q_BHTC.shape[2] == self.length and (allowed_BTT is None or self.masked)
        attend = attention.attend_with_cudnn if seen_to_work else attention.attend_causally
        return attend(q_BHTC, k_BKTC, v_BKTC, allowed_BTT)


OWN = Kernel()


class Shape(NamedTuple):
    """What a kernel must be able to do."""

    dtype: str
    n_head: int
    n_kv_head: int
    d_head: int
    length: int


def choose_kernel(asked: Asked, shape: Shape, *, split: bool = False) -> Kernel:
    """The kernel that a model of this shape is built with; one line of the log says which and why.

    `split` says that the model runs over a mesh of several devices, where the trial says nothing:
    there `auto` is our own code. Raises ConfigError where `cudnn` is asked for and cannot be.
    """
    if asked == "own" or not shape.n_head:
        return OWN
    reason = obstacle(shape, masked=False)
    if asked == "cudnn" and reason:
        raise ConfigError(
            f"train.attention='cudnn' found {reason}; a GPU on which cuDNN attends in bfloat16 or "
            "float16 is required: use train.attention=auto"
        )
    if asked == "auto" and split and not reason:
        reason = "a mesh of several devices, where it was not tried; train.attention=cudnn does it"
    if reason:
        # A CPU has nothing to fall back from.
        level = logging.DEBUG if jax.default_backend() == "cpu" else logging.INFO
        logging.log(level, "attention: our own code, because cuDNN's found %s", reason)
        return OWN
    reason = obstacle(shape, masked=True)
    packed = f"our own code for rows with segments, because it found {reason}" if reason else "all"
    logging.info("attention: cuDNN's at %d positions of %s; %s", shape.length, shape.dtype, packed)
    return Kernel(shape.length, masked=reason is None)


@functools.cache
def obstacle(shape: Shape, *, masked: bool) -> str | None:
    """What keeps cuDNN from attending here, found by letting it; None if nothing does."""
    backend = jax.default_backend()
    if backend != "gpu":
        return f"the backend {backend}, not a GPU"
    if shape.dtype not in ("bfloat16", "float16"):
        return f"activations in {shape.dtype}, not bfloat16 or float16"
    try:
        deviation = deviation_of(attention.attend_with_cudnn, shape, masked)
    except (RuntimeError, ValueError) as error:  # those of jax, XLA and cuDNN
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not deviation <= MOST_DEVIATION:  # NaN is no number that is small enough
        return f"an error of {deviation:.1%}, not at most {MOST_DEVIATION:.0%}"
    return None


def deviation_of(attend: Callable[..., Array], shape: Shape, masked: bool) -> float:
    """The largest relative error of `attend` beside our own: of its values and three gradients."""
    H, K, C, T = shape.n_head, shape.n_kv_head, shape.d_head, shape.length
    keys = jax.random.split(jax.random.key(0), 4)
    sizes = ((ROWS, H, T, C), (ROWS, K, T, C), (ROWS, K, T, C), (ROWS, H, T, C))
    q, k, v, dy = (
        jax.random.normal(key, size, jnp.dtype(shape.dtype))
        for key, size in zip(keys, sizes, strict=True)
    )
    allowed_BTT = None
    if masked:
        starts_B = jnp.arange(1, ROWS + 1) * T // (ROWS + 1)
        second_BT = jnp.arange(T) >= starts_B[:, None]
        allowed_BTT = attention.causal_mask(T) & (second_BT[:, :, None] == second_BT[:, None, :])

    @functools.partial(jax.jit, static_argnums=0)
    def run(attend: Callable[..., Array], q: Array, k: Array, v: Array, dy: Array) -> Any:
        y, pull_back = jax.vjp(lambda *qkv: attend(*qkv, allowed_BTT), q, k, v)
        return y, *pull_back(dy)

    found, wanted = run(attend, q, k, v, dy), run(attention.attend_causally, q, k, v, dy)
    return max(map(_relative_error, found, wanted))


def _relative_error(found: Array, wanted: Array) -> float:
    found, wanted = found.astype(jnp.float32), wanted.astype(jnp.float32)
    return float(jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted))
