"""The state of training: arrays only, so that saving, sharding and vmapping it are one-liners.

State N is the state after N updates; checkpoint N holds exactly it, and the data position that
yields batch N. The run never steps past its last save.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nanogpt_jax.interface import Array, Key, Params


class TrainState(NamedTuple):
    """`step` counts updates (int32); `key` is the run's random key, folded with the step inside."""

    step: Array
    params: Params
    opt_state: Any
    key: Key
