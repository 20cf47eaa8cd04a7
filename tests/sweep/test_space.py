"""The algebra of a sweep: which points there are, and how one is asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.sweep import chain, choice, loguniform, product, uniform, zip_
from nanogpt_jax.sweep.space import Space

NAME = choice("optimizer.name", "adamw", "muon")
SEED = choice("seed", 0, 1, 2)


class Drawn:
    """Chooses by chance, and remembers what it was asked."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self.told: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.told[name] = self._random.choice(list(choices))
        return self.told[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        self.told[name] = self._random.uniform(low, high)
        return self.told[name]


def test_a_product_has_every_combination_the_last_changing_quickest() -> None:
    points = list(product(NAME, SEED).points())
    assert len(points) == 6
    assert points[:2] == [
        {"optimizer.name": "adamw", "seed": 0},
        {"optimizer.name": "adamw", "seed": 1},
    ]


def test_a_zip_goes_side_by_side_and_a_chain_one_after_the_other() -> None:
    sizes = zip_(choice("model.d_model", 64, 128), choice("model.n_head", 2, 4))
    assert list(sizes.points()) == [
        {"model.d_model": 64, "model.n_head": 2},
        {"model.d_model": 128, "model.n_head": 4},
    ]
    both = chain(sizes, product(choice("model.n_layer", 8), NAME))
    assert [sorted(point) for point in both.points()] == [
        *2 * [["model.d_model", "model.n_head"]],
        *2 * [["model.n_layer", "optimizer.name"]],
    ]


SPACES: list[Space] = [
    product(NAME, loguniform("optimizer.learning_rate", 1e-4, 1e-1), SEED),
    zip_(choice("a", 1, 2, 3), choice("b", 4, 5, 6)),
    chain(product(NAME, SEED), zip_(choice("a", 1, 2), choice("b", 3, 4))),
    product(chain(choice("a", 1, 2), choice("b", 3, 4)), uniform("c", 0.0, 1.0)),
]


@pytest.mark.parametrize("space", SPACES)
def test_what_is_drawn_is_a_point_of_the_space(space: Space) -> None:
    try:
        points = list(space.points())
    except ConfigError:  # a range has no end of them
        points = None
    seen = set()
    for seed in range(20):
        drawn = Drawn(seed)
        point = space.suggest(drawn)
        assert point.keys() <= set(space.addresses())
        assert len(drawn.told) > 0 and (points is None or point in points)
        seen.add(tuple(sorted(point.items())))
    assert len(seen) > 2


def test_a_range_has_no_end_of_points_and_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"learning_rate has a range.*tpe"):
        list(product(NAME, loguniform("optimizer.learning_rate", 1e-4, 1e-1)).points())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: choice("seed"), "one or more"),
        (lambda: choice("seed", 1, 1), "different"),
        (lambda: uniform("x", 1.0, 1.0), "low < high"),
        (lambda: loguniform("x", 0.0, 1.0), "more than 0"),
        (lambda: product(SEED, SEED), "seed twice"),
        (lambda: zip_(NAME, SEED), "the same number"),
        (lambda: chain(), "chain has no spaces"),
    ],
)
def test_what_means_nothing_is_refused_where_it_is_written(make: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()
