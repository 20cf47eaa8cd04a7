"""Optimizers and schedules: an optimizer gives a direction, a schedule a factor of the rate.

The step applies the rate. So every number of an optimizer or schedule may be a traced array, a
new value compiles nothing, and a vmap over them trains many settings in one program.
"""

from __future__ import annotations

from typing import Any

from nanogpt_jax.registry import Registry

optimizers: Registry[Any] = Registry("optimizer", "nanogpt_jax.optim")
schedules: Registry[Any] = Registry("schedule", "nanogpt_jax.optim")
