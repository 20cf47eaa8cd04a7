"""An inspection before it runs: how large its answer is, what it holds and how long it takes.

`Prompt` is what is asked about, `Plan` what an answer will be; inspections.py makes the plans.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nanogpt_jax import costs
from nanogpt_jax.experiment import Loaded
from nanogpt_jax.inspection.passes import observe
from nanogpt_jax.interface import LanguageModel, ModelOutput, Params
from nanogpt_jax.serve.payload import Dtype, Field

Arrays = Mapping[str, Any]

SHORTEST_PADDED = 8
FLOAT32_BYTES = 4


class Unanswerable(ValueError):
    """A question that this model, or this prompt, has no answer to; the message quotes no text."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The tokens of one text, and the run that is asked about them."""

    run: Loaded
    tokens: Sequence[int]

    @property
    def padded_length(self) -> int:
        """The next power of two, or the context: few lengths, so few programs are compiled."""
        power = 1 << (len(self.tokens) - 1).bit_length()
        return min(max(SHORTEST_PADDED, power), self.run.shape.max_seq_len)

    def ask(self, inspect: Callable[..., Any], params: Params, **options: Any) -> Any:
        """What a function of nanogpt_jax.inspection says of this prompt."""
        place = {"padded_length": self.padded_length}
        return inspect(self.run.model, params, self.tokens, **place, **options)

    def site_shape(self, site: str) -> tuple[int, ...] | None:
        """The shape of the site's value for one token; None where the model has no such site."""
        return site_shape(self.run.model, site)

    def require(self, *sites: str) -> None:
        """Raises Unanswerable for a model without one of the sites."""
        for site in sites:
            if self.site_shape(site) is None:
                raise Unanswerable(f"this model has no {site}; ask for its tokens alone")

    def choose_layers(self, layers: Sequence[int] | None) -> list[int]:
        """The layers asked for."""
        return choose("layers", layers, self.run.shape.n_layer)

    def choose_heads(self, heads: Sequence[int] | None) -> list[int]:
        """The heads asked for."""
        return choose("heads", heads, self.run.shape.n_head)

    def logits_bytes(self) -> int:
        """Logits of all positions, and their log-probabilities."""
        return 2 * FLOAT32_BYTES * self.padded_length * self.run.shape.vocab_size

    def scores_bytes(self) -> int:
        """Attention scores of one layer, and their probabilities."""
        return 2 * FLOAT32_BYTES * self.run.shape.n_head * self.padded_length**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One inspection: the fields of its answer, what stands beside them, and what it takes.

    `held_bytes` is about what exists at once while it runs, `passes` counts the forward passes
    over the padded prompt. `answer` runs the model.
    """

    prompt: Prompt
    fields: dict[str, Field]
    beside: dict[str, Any]
    held_bytes: int
    passes: int
    answer: Callable[[Params], Arrays]

    def at(self, precision: Dtype) -> Plan:
        """The same with its real numbers in `precision`."""
        fields = {
            name: Field(field.shape, precision) if field.dtype == "float32" else field
            for name, field in self.fields.items()
        }
        return dataclasses.replace(self, fields=fields)

    def flops(self) -> float:
        """Floating-point operations of all passes: a third of those of training."""
        run, length = self.prompt.run, self.prompt.padded_length
        of_token = costs.train_flops_per_token(run.params, run.model.axes, run.shape, length)
        return self.passes * length * of_token / 3


def site_shape(model: LanguageModel, site: str) -> tuple[int, ...] | None:
    """The shape of a site's value for one token; None where the model has no such site."""
    return _site_shape(model.init, model.apply, site)


# A trace takes tens of milliseconds, and one that fails leaves memory behind that nothing frees.
@functools.lru_cache(maxsize=64)
def _site_shape(
    init: Callable[..., Params], apply: Callable[..., ModelOutput], site: str
) -> tuple[int, ...] | None:
    token_11 = np.zeros((1, 1), np.int32)
    try:
        params = jax.eval_shape(init, jax.random.key(0))
        return observe.eval_shape(apply, (site,), params, token_11)[1][site].shape
    except ValueError:
        return None


def choose(what: str, chosen: Sequence[int] | None, size: int) -> list[int]:
    """The places asked for, each once and in order; all of them where nothing is chosen."""
    if chosen is None:
        return list(range(size))
    if not chosen or not all(0 <= index < size for index in chosen):
        raise Unanswerable(f"{what} must be one or more numbers from 0 to {size - 1}")
    return sorted(set(chosen))
