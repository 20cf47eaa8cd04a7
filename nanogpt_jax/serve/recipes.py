"""What can be trained behind the server: the served run's config again, or another model on it.

A recipe is a name and what it changes in a recorded config. The rungs of the ladder
(configs/compare.py) keep corpus, tokenizer, batch and optimizer, and of the model what makes them
comparable, so that curves of several recipes can be laid over each other.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from nanogpt_jax import experiment
from nanogpt_jax.config import Settings
from nanogpt_jax.errors import ConfigError, NanogptError
from nanogpt_jax.models import models

RecipeName = Literal["same", "embedding", "single_head", "multi_head", "gpt"]
# What a rung has as the served model has it, where both have such a field.
SHARED = ("max_seq_len", "d_model", "n_head")


class UnfitRecipe(NanogptError):
    """The recipe makes no run of the served one."""


class Recipe(BaseModel):
    """A recipe in words."""

    model_config = ConfigDict(frozen=True)

    name: RecipeName
    title: str
    description: str


RECIPES = (
    Recipe(
        name="same",
        title="The same again",
        description="The served run's own config, from new parameters.",
    ),
    Recipe(
        name="embedding",
        title="A table of pairs",
        description="Rung 1 of 4: the next word from the last one alone; nothing looks back.",
    ),
    Recipe(
        name="single_head",
        title="One head",
        description="Rung 2 of 4: one head of attention, which looks back for what matters now.",
    ),
    Recipe(
        name="multi_head",
        title="Several heads",
        description="Rung 3 of 4: one layer of heads, which look for several things at once.",
    ),
    Recipe(
        name="gpt",
        title="A GPT",
        description="Rung 4 of 4: layers of heads and MLPs, each building on those before it.",
    ),
)


def changes_of(recipe: RecipeName, settings: Settings) -> dict[str, object]:
    """What a recipe changes in a recorded config, by address; UnfitRecipe if that makes none.

    The process of a run would say so as well, but to nobody who waits.
    """
    if recipe == "same":
        return {}
    fields = models.fields(recipe)
    shared = [name for name in SHARED if name in settings.model and name in fields]
    changes = {f"model.{name}": settings.model[name] for name in shared}
    changes["model.name"] = recipe
    try:
        experiment.resolve(settings, [(name, str(value)) for name, value in changes.items()])
    except ConfigError as error:
        problems = "; ".join(error.problems)
        raise UnfitRecipe(f"recipe={recipe} does not fit the served run: {problems}") from error
    return changes
