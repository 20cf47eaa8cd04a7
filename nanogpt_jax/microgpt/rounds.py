"""Rounds of training, for whoever measures how long the engines take.

What is counted and compared is not known here.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Mapping
from random import Random

from nanogpt_jax.microgpt import names
from nanogpt_jax.microgpt.scalar import Corpus, Settings, draw_weights


def train(*, engine: str, steps: int) -> Callable[[], Mapping[str, float]]:
    """A round of the first `steps` updates of an engine (a module beside this one).

    Tells their `amount` and the `loss` of the last. Raises names.NoNames.
    """
    gc.disable()  # as the command runs
    settings, module = Settings(), importlib.import_module(f"nanogpt_jax.microgpt.{engine}")
    stream = Random(settings.seed)
    corpus = Corpus(names.read(), stream)
    numbers = draw_weights(stream, corpus.bos + 1, settings)
    windows = [corpus.window(step, settings) for step in range(steps)]

    def work() -> Mapping[str, float]:
        *_, loss = module.GPT(numbers, settings).train(windows)
        return {"amount": steps, "loss": loss}

    return work
