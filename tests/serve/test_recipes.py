"""Recipes: the served run's config again, or a rung of the ladder that fits beside it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient

from nanogpt_jax import config, record
from nanogpt_jax.config import Settings
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import default_config, resolve
from nanogpt_jax.models import models
from nanogpt_jax.serve import recorded
from nanogpt_jax.serve.app import build_app
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.manifest import TrainingRequest
from nanogpt_jax.serve.recipes import RECIPES, RecipeName, UnfitRecipe, changes_of
from nanogpt_jax.serve.training import TrainingRuns

URL = "http://127.0.0.1:8787"
ASKED = {"train_steps": 4, "learning_rate": 0.01, "checkpoint_interval": 0, "eval_interval": 0}
LADDER: tuple[RecipeName, ...] = ("embedding", "single_head", "multi_head", "gpt")


class Starting:
    """Runs that note what they were asked, or refuse it."""

    def __init__(self, refusal: Exception | None = None):
        self.refusal = refusal
        self.asked: list[TrainingRequest] = []

    def start(self, request: TrainingRequest) -> str:
        if self.refusal:
            raise self.refusal
        self.asked.append(request)
        return "x"


def client_of(runs: Any) -> TestClient:
    service: Any = SimpleNamespace()
    return TestClient(build_app(service, Caps(), runs), base_url=URL)


def served(model: str, **fields: object) -> Settings:
    """The config of a run of `model`, with fields of its own."""
    settings = default_config(model=model)
    settings.data.source = "bundled:tales"
    settings.model.update(fields)
    settings.train.seq_len = min(settings.train.seq_len, settings.model.max_seq_len)
    return settings


def applied(settings: Settings, changes: dict[str, object]) -> Settings:
    return resolve(settings, [(name, str(value)) for name, value in changes.items()]).config


def test_recipes_are_listed_by_the_names_that_a_request_takes():
    answer = client_of(None).get("/api/recipes")
    assert answer.status_code == 200
    listed = answer.json()
    assert [each["name"] for each in listed] == [*get_args(RecipeName)] == ["same", *LADDER]
    assert all(each.keys() == {"name", "title", "description"} for each in listed)
    assert all(each["title"] and each["description"].endswith(".") for each in listed)
    assert listed == [recipe.model_dump() for recipe in RECIPES]


def test_the_same_changes_nothing():
    assert changes_of("same", served("gpt")) == {}


@pytest.mark.parametrize("recipe", LADDER)
@pytest.mark.parametrize("model", ["gpt", "multi_head", "single_head", "embedding", "moe"])
def test_a_rung_differs_from_the_served_run_in_its_model_alone(recipe: RecipeName, model: str):
    settings = served(model, d_model=32, max_seq_len=48)
    before = config.flatten(config.to_dict(settings))
    after = config.flatten(config.to_dict(applied(settings, changes_of(recipe, settings))))
    assert after["model.name"] == recipe
    assert (after["model.d_model"], after["model.max_seq_len"]) == (32, 48)
    changed = {name for name in after if after[name] != before.get(name)}
    assert all(name.startswith("model.") for name in changed)
    assert {name for name in before if not name.startswith("model.")} <= after.keys()


def test_a_rung_has_as_many_heads_as_the_served_model_where_it_has_any():
    settings = served("gpt", d_model=48, n_head=6, max_seq_len=48)
    assert changes_of("multi_head", settings)["model.n_head"] == 6
    assert "model.n_head" not in changes_of("single_head", settings)
    assert applied(settings, changes_of("gpt", settings)) == settings  # the same model, as it is


def test_every_rung_is_a_registered_model():
    assert all(recipe in models for recipe in LADDER)


def test_a_rung_that_cannot_be_built_is_refused_with_what_is_wrong():
    settings = served("embedding", d_model=30)
    with pytest.raises(UnfitRecipe, match=r"recipe=gpt .*model\.d_model=30 is not a multiple of"):
        changes_of("gpt", settings)
    with pytest.raises(ConfigError):
        applied(settings, {"model.name": "gpt", "model.d_model": 30})
    answer = client_of(Starting(UnfitRecipe("recipe=gpt does not fit"))).post(
        "/api/train", json={**ASKED, "recipe": "gpt"}
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert answer.json()["message"] == "recipe=gpt does not fit"


@pytest.mark.parametrize("recipe", [None, "same", *LADDER])
def test_a_recipe_reaches_the_run(recipe: str | None):
    runs = Starting()
    answer = client_of(runs).post("/api/train", json={**ASKED, "recipe": recipe})
    assert answer.status_code == 202
    assert [request.recipe for request in runs.asked] == [recipe]


@pytest.mark.parametrize("recipe", ["moe", "", "GPT", "../gpt", 5, True, ["gpt"], {}])
def test_a_recipe_that_is_not_listed_is_refused(recipe: Any):
    runs = Starting()
    answer = client_of(runs).post("/api/train", json={**ASKED, "recipe": recipe})
    assert (answer.status_code, answer.json()["field"]) == (422, "recipe")
    assert runs.asked == []


def test_another_model_cannot_start_from_the_served_weights():
    runs = Starting()
    client = client_of(runs)
    for name in (6, "run-x.step-3"):
        asked = {**ASKED, "resume_from": name}
        refused = client.post("/api/train", json={**asked, "recipe": "embedding"})
        assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
        assert client.post("/api/train", json={**asked, "recipe": "same"}).status_code == 202
    assert {request.recipe for request in runs.asked} == {"same"}


def test_the_command_of_a_run_makes_the_rung_of_what_the_served_run_recorded(workdir: Path):
    noted: list[Any] = []

    def launch(config_of: Path, to: Path, overrides: Any) -> list[str]:
        noted.extend(overrides)
        raise OSError("nothing is started here")

    home = workdir.parent / "home"
    service: Any = SimpleNamespace(current=lambda: SimpleNamespace(workdir=workdir))
    runs = TrainingRuns(service, launch=launch)
    runs._home = home  # so that the run of other tests stays as it is
    with pytest.raises(OSError):
        runs.start(TrainingRequest(**ASKED, recipe="multi_head"))
    plan = resolve(recorded.get_config(str(workdir)), [(name, str(value)) for name, value in noted])
    held = record.read(workdir)
    assert plan.model_name == "multi_head" and held.shape.name == "gpt"
    shape = plan.model.shape(held.shape.vocab_size)
    assert (shape.n_layer, shape.n_head, shape.d_model) == (1, 4, 32)
    assert shape.max_seq_len == held.shape.max_seq_len
    assert plan.train.batch_size == held.config["train"]["batch_size"]
    assert plan.steps == 4 and plan.tokenizer.path == str(workdir.resolve() / "tokenizer.json")
