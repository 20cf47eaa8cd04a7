"""Every config of configs/ and the page about all fields, held to files in the repository.

    NANOGPT_REGENERATE=1 scripts/run pytest tests/test_configs.py

writes the files anew; their difference is what a change of code changes for users.
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
import pytest

from nanogpt_jax import models
from nanogpt_jax.comparison import resolve_variants
from nanogpt_jax.config import flatten
from nanogpt_jax.experiment import (
    SCHEMA,
    Plan,
    load_config,
    load_phases,
    load_variants,
    resolve,
)
from nanogpt_jax.experiment.reference import describe
from nanogpt_jax.main import default_workdir
from nanogpt_jax.phases import resolve_phases

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = REPOSITORY / "tests" / "golden"
CONFIGS = sorted((REPOSITORY / "configs").glob("*.py"))
REGENERATE = "NANOGPT_REGENERATE=1 scripts/run pytest tests/test_configs.py"
CHARACTERS = 65  # of a char tokenizer, which only the corpus decides


def hold(path: Path, text: str) -> None:
    """Compares `text` with the file at `path`, or writes it there when asked to."""
    if os.environ.get("NANOGPT_REGENERATE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    name = path.relative_to(REPOSITORY)
    assert path.is_file(), f"{name} is missing; write it with {REGENERATE}"
    found = path.read_text(encoding="utf-8")
    assert text == found, f"{name} is out of date; if that is meant to be, {REGENERATE}"


def plans_of(path: Path) -> dict[str, Plan]:
    """The runs that a config file describes."""
    config, variants = load_config(str(path)), load_variants(str(path))
    if phases := load_phases(str(path)):
        return resolve_phases(config, phases, Path("checkpoints") / path.stem)
    return resolve_variants(config, variants) if variants else {path.stem: resolve(config)}


def picture_of(plan: Plan) -> dict[str, Any]:
    """The flattened config, and the shape and dtype of every parameter."""
    asked = plan.tokenizer
    vocab_size = CHARACTERS if asked.kind == "char" else asked.vocab_size
    model = models.build(plan.model_name, plan.model, vocab_size)
    shapes = jax.tree_util.tree_leaves_with_path(jax.eval_shape(model.init, jax.random.key(0)))
    parameters = {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype} {leaf.shape}"
        for path, leaf in shapes
    }
    return {"config": flatten(plan.config), "parameters": parameters}


def test_the_configs_of_the_readme_are_there():
    names = "compare embedding gpt2_classic minigpt multi_head shakespeare_char single_head tiny"
    assert set(names.split()) <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_builds_the_model_that_its_golden_file_shows(path: Path):
    pictures = {name: picture_of(plan) for name, plan in plans_of(path).items()}
    hold(GOLDEN / f"{path.stem}.json", json.dumps(pictures, indent=1) + "\n")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_how_it_is_run_and_is_short(path: Path):
    text = path.read_text(encoding="utf-8")
    assert f"python -m nanogpt_jax.main --config=configs/{path.name}" in text
    assert len(text.splitlines()) <= 60


def test_no_golden_file_is_left_without_its_config():
    assert {path.stem for path in GOLDEN.iterdir()} == {path.stem for path in CONFIGS}


def test_the_variants_of_compare_differ_in_the_model_and_in_the_rate_of_a_tied_table():
    plans = plans_of(REPOSITORY / "configs/compare.py")
    assert list(plans) == ["embedding", "single_head", "multi_head", "gpt"]
    assert len({plan.model_name for plan in plans.values()}) == 4
    differing = ("model.", "optimizer.embedding_ratio")
    shared = [
        {
            name: value
            for name, value in flatten(plan.config).items()
            if not name.startswith(differing)
        }
        for plan in plans.values()
    ]
    assert shared == [shared[0]] * 4
    ratios = [plan.optimizer_fields["embedding_ratio"] for plan in plans.values()]
    assert ratios == [1.0, 1.0, 1.0, 0.3], "only the last has a tied table"


def test_the_page_about_the_fields_is_true():
    hold(REPOSITORY / "docs" / "configuration.md", describe(SCHEMA))


def test_every_field_of_every_named_thing_says_what_it_means():
    for name, section in SCHEMA.sections.items():
        for choice in section.registry or ():
            for field in section.own(choice).values():
                address = f"{name}.{field.name} of {choice}"
                assert field.meaning, f"{address} does not say what it means"
                assert field.problem(address, field.default) is None


@pytest.mark.parametrize(
    "config, folder",
    [("configs/tiny.py", "tiny"), ("/a/b.py:small", "b-small"), ("b.py:", "b-")],
)
def test_a_run_lies_under_the_name_of_its_config(config: str, folder: str):
    assert default_workdir(config) == f"checkpoints/{folder}"
