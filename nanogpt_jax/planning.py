"""What follows from a config's shapes: FLOPs, memory and time of an update, updates of a budget.

Nothing is trained or allocated; docs/planning.md says how far the formulas hold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from nanogpt_jax import costs, experiment, memory, parallel
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import Plan
from nanogpt_jax.memory import Memory, Work
from nanogpt_jax.models import gpt
from nanogpt_jax.step import create_state

# Fitted to the updates of a dozen shapes (1 to 6 layers, widths 64 to 384, 64 to 512 tokens a row)
# on two cores: what a FLOP of a layer costs beside one of a square product; what a number that a
# layer keeps, a logit, and a parameter in the optimizer cost beside one that goes through a softmax
# once; and what an update takes however small it is.
OF_A_PRODUCT = 0.66
OF_A_NUMBER = 7.0
OF_A_LOGIT = 11.5
OF_A_PARAMETER = 19.5
UPDATE_SECONDS = 0.85e-3


class Rates(NamedTuple):
    """What a machine gives: FLOP/s of square products, numbers a second of a softmax.

    An update is products of matrices and everything else, whose numbers are read, changed and
    written, the scores of attention among them; bench/machine.py measures both.
    """

    products: float
    numbers: float

    def seconds(
        self, *, products: float, numbers: float, logits: float, parameters: float
    ) -> float:
        """The time of so much work, one after the other."""
        touched = OF_A_NUMBER * numbers + OF_A_LOGIT * logits + OF_A_PARAMETER * parameters
        return UPDATE_SECONDS + OF_A_PRODUCT * products / self.products + touched / self.numbers


class Shapes(NamedTuple):
    """A config without numbers: the shapes of state 0, and what names the model."""

    plan: Plan
    state: Any
    axes: Any
    shape: Any
    vocab_size: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return costs.parameter_count(self.state.params)

    @property
    def flops_per_token(self) -> float:
        """Forward and backward."""
        return costs.train_flops_per_token(
            self.state.params, self.axes, self.shape, self.plan.train.seq_len
        )

    @property
    def flops_per_update(self) -> float:
        """Of all tokens of a batch, and of the optimizer where it multiplies."""
        found = self.flops_per_token * self.plan.tokens_per_step
        if self.plan.optimizer.name == "muon":
            iterations = self.plan.optimizer_fields["newton_schulz_steps"]
            found += costs.orthogonalisation_flops(self.state.params, self.axes, iterations)
        return found


class Chip(NamedTuple):
    """A chip of the table: its name, peak in FLOP/s, and bytes of memory where they are known."""

    name: str
    flops: float
    memory_bytes: float | None


def find_chip(name: str) -> Chip:
    """The chip of that name in costs.PEAK_FLOPS."""
    if name not in costs.PEAK_FLOPS:
        known = ", ".join(costs.PEAK_FLOPS)
        raise ConfigError(f"--chip={name!r} is unknown; `here` or one of {known} is required")
    return Chip(name, costs.PEAK_FLOPS[name], costs.MEMORY_BYTES.get(name))


def shapes_of(plan: Plan) -> Shapes:
    """The shapes of a config's state 0; a corpus is read only where its vocabulary is unknown."""
    vocab_size = experiment.vocabulary_size(plan)
    model = experiment.build_model(plan, vocab_size)
    recipe = experiment.build_recipe(plan, model, vocab_size)
    hyper = experiment.build_hyper(plan, plan.total_steps)
    create = functools.partial(create_state, recipe)
    state = jax.eval_shape(create, hyper, jax.random.key(0))
    return Shapes(plan, state, model.axes, plan.model.shape(vocab_size), vocab_size)


def mesh_of(plan: Plan, chips: int) -> dict[str, int]:
    """Sizes of the mesh that the config makes of so many chips."""
    sizes = parallel.mesh_shape(plan.parallel, chips)
    return dict(zip(("data", "fsdp", "tensor"), sizes, strict=True))


def memory_of(shapes: Shapes, mesh: Mapping[str, int], *, on_cpu: bool) -> Memory | None:
    """Bytes of one device; None for models whose blocks are not those of `gpt`."""
    if not isinstance(shapes.plan.model, gpt.Config):
        return None
    train = shapes.plan.train
    wide = train.compute_dtype == "float32" or (train.compute_dtype == "auto" and on_cpu)
    split = mesh["data"] * mesh["fsdp"]
    rows = math.ceil(train.batch_size / train.accumulate_steps / split)
    work = Work(rows, train.seq_len, train.accumulate_steps, mesh, 4 if wide else 2, on_cpu)
    return memory.step_memory(shapes.state, shapes.axes, shapes.shape, shapes.plan.model, work)


def seconds_here(shapes: Shapes, rates: Rates) -> float:
    """The time of an update on the cores that `rates` were measured on."""
    plan, tokens = shapes.plan, shapes.plan.tokens_per_step
    attention = tokens * costs.attention_flops_per_token(
        shapes.state.params, shapes.axes, shapes.shape, plan.train.seq_len
    )
    numbers = 0.0
    if isinstance(plan.model, gpt.Config):
        mesh = {"data": 1, "fsdp": 1, "tensor": 1}
        work = Work(1, plan.train.seq_len, 1, mesh, 4, True)
        numbers = shapes.shape.n_layer * memory.numbers_of_layer(
            shapes.state.params, shapes.shape, plan.model, work
        )
    return rates.seconds(
        products=shapes.flops_per_update - attention,
        numbers=tokens * numbers,
        logits=tokens * shapes.vocab_size,
        parameters=shapes.parameters,
    )


def steps_within(shapes: Shapes, horizons: Mapping[str, float], step_seconds: float) -> int:
    """Updates that a budget allows, at least one; those of the config without one."""
    if ratio := horizons["tokens_per_parameter"]:
        return math.ceil(ratio * shapes.parameters / shapes.plan.tokens_per_step)
    if total := horizons["flops"]:
        return max(1, int(total // shapes.flops_per_update))
    if total := horizons["seconds"]:
        return max(1, int(total // step_seconds))
    return shapes.plan.steps
