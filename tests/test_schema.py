"""Sections, named things and their fields: defaults, overrides and every kind of problem."""

import dataclasses
from typing import Annotated, Any

import pytest

from nanogpt_jax.config import flatten, from_dict, to_dict
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import Registry, non_negative, positive
from nanogpt_jax.schema import Schema, Section

pets: Registry[Any] = Registry("pet", __name__)


@pets
def cat(*, lives: Annotated[int, "how many are left", positive] = 9, purring: bool = True) -> None:
    """A cat."""


@pets
def fish(*, litres: Annotated[float, "of water", positive] = 40.0, lives: int = 1) -> None:
    """A fish."""


@dataclasses.dataclass(frozen=True)
class Root:
    """Above all."""

    seed: Annotated[int, "a number", non_negative] = 0


@dataclasses.dataclass(frozen=True)
class Pet:
    """Shared by all pets."""

    name: str = "cat"
    age: Annotated[int, "years", non_negative] = 2


@dataclasses.dataclass(frozen=True)
class House:
    """Names no thing, and has a field that Python keeps for itself."""

    doors: Annotated[int, "ways in", positive] = 1
    from_: str = ""


@dataclasses.dataclass(frozen=True)
class Food:
    """Chooses by the word before a colon."""

    source: str = "cat:tin"


SCHEMA = Schema(
    Root,
    {
        "pet": Section(Pet, pets),
        "house": Section(House),
        "food": Section(Food, pets, "source", lambda source: source.partition(":")[0]),
    },
)


@pytest.fixture(autouse=True)
def one_file(monkeypatch):
    """A registry looks for things in the files of a package; here all stand in this one."""
    monkeypatch.setattr(Registry, "_all", lambda self: self._targets)


def override(*assignments, config=None):
    changed, problems = SCHEMA.override(config or SCHEMA.default(), assignments)
    return flatten(changed), problems


def test_the_default_has_the_fields_of_the_named_things():
    flat = flatten(SCHEMA.default())
    assert flat["pet.lives"] == 9 and flat["pet.age"] == 2 and "pet.litres" not in flat
    flat = flatten(SCHEMA.default(pet="fish", food="fish:flakes"))
    assert (flat["pet.name"], flat["pet.litres"], flat["food.litres"]) == ("fish", 40.0, 40.0)
    assert "pet.purring" not in flat


def test_a_wrong_choice_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError) as told:
        SCHEMA.default(pet="fihs", foood="fish:x", house="x")
    assert told.value.problems == [
        "section='foood' is not known; did you mean 'food'?",
        "section='house' is not known; known: food, pet",
        "pet.name='fihs' is not known; did you mean 'fish'?",
    ]


def test_an_override_leaves_the_config_it_is_read_on():
    config = SCHEMA.default()
    flat, problems = override(("seed", "3"), ("house.from", "there"), config=config)
    assert (flat["seed"], flat["house.from"], problems) == (3, "there", {})
    assert config.seed == 0 and config.is_locked


@pytest.mark.parametrize("turned", [False, True])
def test_another_name_brings_its_fields_and_drops_the_old_ones_in_any_order(turned):
    changes = [("pet.name", "fish"), ("pet.litres", "60"), ("pet.age", "5")]
    flat, problems = override(*(reversed(changes) if turned else changes))
    assert problems == {}
    pet = {name: value for name, value in flat.items() if name.startswith("pet.")}
    assert pet == {"pet.name": "fish", "pet.age": 5, "pet.litres": 60.0, "pet.lives": 1}


def test_a_field_that_both_things_have_takes_the_default_of_the_new_one():
    config, _ = SCHEMA.override(SCHEMA.default(), [("pet.lives", "3")])
    assert override(("pet.name", "fish"), config=config)[0]["pet.lives"] == 1


def test_the_same_name_again_keeps_what_was_set():
    config, _ = SCHEMA.override(SCHEMA.default(), [("pet.lives", "3"), ("food.lives", "4")])
    flat, _ = override(("pet.name", "cat"), ("food.source", "cat:dry"), config=config)
    assert (flat["pet.lives"], flat["food.lives"], flat["food.source"]) == (3, 4, "cat:dry")


def test_all_unreadable_overrides_are_told_and_the_readable_ones_hold():
    flat, problems = override(
        ("pet.nam", "fish"), ("huose.doors", "2"), ("seed", "x"), ("house.doors", "1e1"),
        ("pet.name", "dog"), ("pet.lives", "7"), ("house.windows", "2"), ("food.source", "fihs:x"),
    )  # fmt: skip
    assert problems == {
        "pet.name": "pet.name='dog' is not known; known: cat, fish",
        "food.source": "food.source='fihs' is not known; did you mean 'fish'?",
        "pet.nam": "config.pet.nam is not a field; did you mean 'pet.name'?",
        "huose.doors": "config.huose.doors is not a field; did you mean 'house.doors'?",
        "seed": "seed='x': a value of type int is required",
        "house.windows": "config.house.windows is not a field; did you mean 'house.doors'?",
    }
    assert (flat["house.doors"], flat["pet.lives"]) == (10, 7)


def test_a_config_that_was_made_by_hand_is_told_all_its_problems():
    values = to_dict(SCHEMA.default())
    values["pet"] |= {"age": -1, "lives": "nine", "litres": 3.0}
    del values["house"], values["pet"]["purring"]
    values["food"]["source"] = "bird:seed"
    values["shed"] = {"doors": 1}
    assert SCHEMA.problems(from_dict(values)) == {
        "pet.litres": (
            "config.pet.litres is no field where pet.name='cat'; in a config file, "
            "start from default_config(pet='cat')"
        ),
        "shed.doors": "config.shed.doors is not a field; did you mean 'house.doors'?",
        "pet.age": "pet.age=-1 must be at least 0",
        "pet.lives": "pet.lives='nine': a value of type int is required",
        "pet.purring": "config.pet.purring is missing; its default is True",
        "house.doors": "config.house.doors is missing; its default is 1",
        "house.from": "config.house.from is missing; its default is ''",
        "food.source": "food.source='bird' is not known; known: cat, fish",
    }


def test_a_default_has_no_problem():
    assert SCHEMA.problems(SCHEMA.default(pet="fish")) == {}


def test_a_section_splits_into_its_own_values_and_those_of_the_thing():
    config, _ = SCHEMA.override(SCHEMA.default(), [("house.from", "x"), ("pet.lives", "8")])
    assert SCHEMA.split(config, "house") == (House(1, "x"), {})
    assert SCHEMA.split(config, "pet") == (Pet("cat", 2), {"lives": 8, "purring": True})


def test_an_address_like_no_other_meets_those_of_its_section():
    flat, problems = override(("house.elephants", "1"), ("x", "1"))
    assert problems == {
        "house.elephants": (
            "config.house.elephants is not a field; known: house.doors, house.from"
        ),
        "x": f"config.x is not a field; known: {', '.join(sorted(flat))}",
    }
