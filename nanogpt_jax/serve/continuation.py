"""How a prompt goes on, at any checkpoint: what that takes, and the tokens.

The engine generates with what is served. This is for looking at training again: one text at a
time, with whatever parameters, and programs that are compiled once for a model.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

from nanogpt_jax import costs
from nanogpt_jax.experiment import Loaded
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import Params
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.serve.plans import FLOAT32_BYTES, Prompt
from nanogpt_jax.slots import Drawn

# "id", "logprob" and "alternatives" with a number of ten and one of twenty-five digits.
BYTES_OF_A_TOKEN = 96


class Continued(NamedTuple):
    """The tokens after a prompt; `stop`: the next one would have begun another text."""

    drawn: list[Drawn]
    finish: Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continuation:
    """A text to be written: a prompt of any length, of which the window's last tokens are read."""

    prompt: Prompt
    stop: frozenset[int]
    sampling: Sampling
    max_tokens: int
    alternatives: int

    def write(self, generator: Generator, params: Params) -> Continued:
        """Runs the model until the text is over, or long enough."""
        drawn = [
            *generator.stream(
                params,
                self.prompt.tokens,
                self.sampling,
                max_tokens=self.max_tokens,
                stop=self.stop,
                alternatives=self.alternatives,
            )
        ]
        return Continued(drawn, "length" if len(drawn) == self.max_tokens else "stop")

    def size_bytes(self) -> int:
        """The most that the answer takes as JSON."""
        listed = self.max_tokens * (1 + self.alternatives)
        return BYTES_OF_A_TOKEN * (1 + len(self.prompt.tokens) + listed)

    def held_bytes(self) -> int:
        """The cache, and what reading the prompt holds."""
        shape = self.prompt.run.shape
        cache = 2 * FLOAT32_BYTES * shape.n_layer * shape.max_seq_len * shape.d_model
        return cache + self.prompt.scores_bytes() + self.prompt.logits_bytes()

    def flops(self) -> float:
        """Floating-point operations: a third of training on all tokens that are read."""
        run = self.prompt.run
        context = run.shape.max_seq_len
        of_token = costs.train_flops_per_token(run.params, run.model.axes, run.shape, context)
        return self._read_tokens(run) * of_token / 3

    def _read_tokens(self, run: Loaded) -> int:
        """A token steps while the window has room, and reads all of it anew when it slides."""
        context, length = run.shape.max_seq_len, len(self.prompt.tokens)
        room = max(context - length, 0) if run.model.empty_cache else 0
        steps = min(self.max_tokens, room)
        return self.prompt.padded_length + steps + (self.max_tokens - steps) * context
