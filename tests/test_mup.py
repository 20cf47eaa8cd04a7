"""muP: what the switch changes, what it leaves, what it refuses, and what it promises of widths."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

from nanogpt_jax import models
from nanogpt_jax.data.sources.synthetic.families import markov
from nanogpt_jax.data.sources.synthetic.process import write_text
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import default_config, resolve
from nanogpt_jax.experiment.building import build_hyper, build_recipe
from nanogpt_jax.interface import Batch, LanguageModel
from nanogpt_jax.interop.nanochat import NANOCHAT
from nanogpt_jax.models import gpt
from nanogpt_jax.optim import optimizers
from nanogpt_jax.optim.groups import group
from nanogpt_jax.optim.optimizer import FITTING_WIDTH
from nanogpt_jax.step import Hyper, Recipe, create_state, loss_sums, train_step
from tests.fakes import fake_batch, fake_model, hyper_of

V = 11
FAKE = fake_model()
PARAMS = FAKE.init(jax.random.key(0))


def direction(name: str, ratio: float, **numbers: float) -> Any:
    """The second direction of an optimizer of the fake model, given the same gradients."""
    build = optimizers[name](group(FAKE.axes, ratio), **hyper_of(name, **numbers)["optimizer"])
    rng, state, said = np.random.default_rng(0), build.init(PARAMS), None
    for _ in range(2):
        grads = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("float32"), PARAMS)
        said, state = build.update(grads, state, PARAMS)
    return jax.tree.map(np.asarray, said)


def leaves_by_role(tree: Any) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    roles = group(FAKE.axes).roles
    jax.tree.map(lambda role, leaf: found.setdefault(role, []).append(leaf), roles, tree)
    return found


@pytest.mark.parametrize("name", FITTING_WIDTH)
def test_matrices_and_head_move_by_the_ratio_and_the_rest_as_before(name: str) -> None:
    still = {} if name == "adam" else {"weight_decay": 0.0}
    before, after = (leaves_by_role(direction(name, ratio, **still)) for ratio in (1.0, 0.25))
    assert set(before) == {"matrix", "head", "embedding", "vector"}
    for role, leaves in before.items():
        factor = 0.25 if role in ("matrix", "head") else 1.0
        for one, other in zip(leaves, after[role], strict=True):
            assert np.abs(one).min() > 0
            np.testing.assert_array_equal(other, one * np.float32(factor))


@pytest.mark.parametrize("name", sorted(set(FITTING_WIDTH) - {"adam"}))
def test_decay_is_the_same_at_every_width(name: str) -> None:
    decays = [
        jax.tree.map(
            np.subtract,
            direction(name, ratio, weight_decay=0.5),
            direction(name, ratio, weight_decay=0.0),
        )
        for ratio in (1.0, 0.25)
    ]
    assert all(np.abs(leaf).max() > 0.1 for leaf in leaves_by_role(decays[0])["matrix"])
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), *decays)


@pytest.mark.parametrize("name", sorted(set(optimizers) - set(FITTING_WIDTH)))
def test_an_optimizer_that_is_refused_would_not_follow(name: str) -> None:
    jax.tree.map(np.testing.assert_array_equal, direction(name, 1.0), direction(name, 0.25))


def parts_of(optimizer: str = "adamw", **model: Any) -> tuple[LanguageModel, Recipe, Hyper]:
    """What a config becomes, with `model` fields on top of a small gpt."""
    small = {"n_layer": 1, "n_head": 2, "d_model": 16, "max_seq_len": 8, "init": "kaiming"}
    changes = [(f"model.{name}", str(value)) for name, value in {**small, **model}.items()]
    config = default_config(model="gpt", optimizer=optimizer, schedule="constant")
    plan = resolve(config, [*changes, ("train.seq_len", "8")])
    built = models.build(plan.model_name, plan.model, V)
    return built, build_recipe(plan, built, V), build_hyper(plan, 10)


def updated(**model: Any) -> tuple[Any, Any, str]:
    """State 0, state 1 and the program that makes one of the other."""
    _, recipe, hyper = parts_of(**model)
    state = create_state(recipe, hyper, jax.random.key(0))
    lowered = jax.jit(functools.partial(train_step, recipe)).lower(state, fake_batch(), hyper)
    return state.params, lowered.compile()(state, fake_batch(), hyper)[0].params, lowered.as_text()


def same(one: Any, other: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


@pytest.mark.slow
def test_at_the_base_width_everything_is_as_without_the_switch() -> None:
    off, at_base, wider = (updated(mup_base_width=base) for base in (0, 16, 8))
    assert same(off[:2], at_base[:2]) and off[2] == at_base[2]
    assert not same(off[0], wider[0]) and not same(off[1], wider[1]) and off[2] != wider[2]


def test_the_base_width_reaches_the_recipe() -> None:
    assert parts_of()[1].width_ratio == 1.0
    assert parts_of(mup_base_width=8)[1].width_ratio == 0.5
    embedding = resolve(default_config(model="embedding"))  # has no such field
    model = models.build(embedding.model_name, embedding.model, V)
    assert build_recipe(embedding, model, V).width_ratio == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("init", ["nanochat", "gpt2", "kaiming"])
def test_a_wider_head_starts_smaller_and_a_matrix_with_the_root_of_it(init: str) -> None:
    def spreads(width: int) -> list[float]:
        fields = {"n_layer": 1, "n_head": 4, "max_seq_len": 8, "init": init}
        config = gpt.Config(d_model=width, mup_base_width=32, **fields)
        params = models.build("gpt", config, 64).init(jax.random.key(0))
        leaves = (params["w_embed"], params["layers"]["mlp"]["w_up"], params["w_head"])
        return [float(np.std(leaf)) for leaf in leaves]

    ratios = np.divide(spreads(128), spreads(32))
    np.testing.assert_allclose(ratios, [1, 1 / 2, 1 / 4], rtol=0.05)


def test_heads_of_more_channels_have_smaller_logits() -> None:
    tokens_BT = fake_batch().inputs_BT
    found = []
    for base_head in (0, 2):
        model = parts_of(mup_base_width=8, mup_base_head=base_head)[0]
        params = model.init(jax.random.key(1))
        site = "attention_logit_max"
        found.append(model.apply(params, tokens_BT, capture=(site,)).captured[site])
    assert np.abs(found[0]).min() > 0.01
    np.testing.assert_allclose(found[1], found[0] / 2, rtol=1e-5)  # sqrt(2 / 8)


REFUSED: dict[str, tuple[dict[str, str], list[str]]] = {
    "tied": ({"model.tied_head": "True"}, ["model.tied_head=True with model.mup_base_width=32"]),
    "hidden": ({"model.d_hidden": "40"}, ["model.d_hidden=40", "use model.d_hidden=0"]),
    "heads": ({"model.mup_base_head": "12"}, ["not a multiple of the 12 channels"]),
    "muon": ({"optimizer.name": "muon"}, ["optimizer.name='muon'", "adam, adamw, lion"]),
    "sgd": ({"optimizer.name": "sgd"}, ["optimizer.name='sgd'", "adam, adamw, lion"]),
    "experts": ({"model.name": "moe"}, ["model.name='moe'", "model.name=gpt"]),
    "unused": (
        {"model.mup_base_width": "0", "model.mup_base_head": "8"},
        ["model.mup_base_head=8 needs model.mup_base_width"],
    ),
}


def refusals(changes: dict[str, str]) -> list[str]:
    config = default_config(model="gpt", optimizer="adamw")
    values = {"model.mup_base_width": "32", **changes}
    with pytest.raises(ConfigError) as told:
        resolve(config, list(values.items()))
    return told.value.problems


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_rules_do_not_cover_is_refused_with_its_remedy(case: str) -> None:
    changes, words = REFUSED[case]
    (problem,) = refusals(changes)
    assert all(word in problem for word in words), problem


def test_all_that_does_not_fit_is_told_at_once() -> None:
    changes = {
        name: value
        for case in ("tied", "hidden", "muon")
        for name, value in REFUSED[case][0].items()
    }
    assert len(refusals(changes)) == 3


def test_a_model_trained_so_is_exported_as_any_unless_its_heads_are_scaled() -> None:
    assert NANOCHAT.problems(gpt.Config(mup_base_width=32)) == []
    (problem,) = NANOCHAT.problems(gpt.Config(mup_base_width=32, mup_base_head=8))
    assert "model.mup_base_head=8, 0 is required" in problem


# What is promised of widths, on a process whose second last character matters too. Its characters
# are few beside 64 channels: of many, the overlaps of their embeddings still fall with the width.
PROCESS = markov(order=2, states=8, concentration=0.3)
BASE, ROWS, LENGTH, D_HEAD = 64, 16, 16, 16
WIDTHS = (64, 128, 256, 512)
# Of the coordinate check: a quarter of the best, at which 64 channels are not yet many.
RATE = 2.0**-8
SITES = ("residual", "attention", "attention_logit_max", "head_out", "mlp_out")


def rows_of(seed: int, count: int) -> Batch:
    """So many rows of the process."""
    text = write_text(PROCESS, count * (LENGTH + 1), seed)
    tokens = np.array([PROCESS.alphabet.index(one) for one in text], np.int32)
    tokens = tokens.reshape(count, LENGTH + 1)
    return Batch(tokens[:, :-1], tokens[:, 1:], np.ones((count, LENGTH), np.float32))


class Trainee:
    """A model of two layers under Adam, as wide as asked; heads have 16 channels at every width."""

    def __init__(self, width: int, *, mup: bool, schedule: str = "constant"):
        config = gpt.Config(
            n_layer=2,
            n_head=width // D_HEAD,
            d_model=width,
            max_seq_len=LENGTH,
            mup_base_width=BASE if mup else 0,
        )
        self.model = models.build("gpt", config, len(PROCESS.alphabet))
        self.recipe = Recipe(
            self.model,
            len(PROCESS.alphabet),
            "adam",
            schedule,
            width_ratio=config.width_ratio,
        )
        self._create = jax.jit(functools.partial(create_state, self.recipe))
        self._step = jax.jit(functools.partial(train_step, self.recipe), donate_argnums=0)

    def train(self, rate: float, seed: int, steps: int, **schedule: float) -> Any:
        """The parameters after so many updates, each of rows of its own."""
        hyper = hyper_of("adam", learning_rate=rate)
        numbers = {"total_steps": steps, "min_ratio": 1.0, **schedule}
        hyper["schedule"] = jax.tree.map(np.float32, numbers)
        state = self._create(hyper, jax.random.key(seed))
        rows = rows_of(seed, steps * ROWS)
        for index in range(steps):
            own = slice(index * ROWS, (index + 1) * ROWS)
            state, _ = self._step(state, jax.tree.map(lambda x, own=own: x[own], rows), hyper)
        return state.params


@functools.cache
def sizes(width: int, *, mup: bool, seeds: int, updates: int = 10) -> dict[str, float]:
    """Root mean squares of what a model computes after some updates; geometric means over seeds.

    `site/l` is a site of layer l.
    """
    trainee, probe_BT = Trainee(width, mup=mup), rows_of(99, ROWS).inputs_BT

    @jax.jit
    def look(params: Any) -> dict[str, Any]:
        output = trainee.model.apply(params, probe_BT, capture=SITES)
        layers = {
            f"{site}/{index}": value[index]
            for site, value in output.captured.items()
            for index in range(2)
        }
        logits = trainee.model.unembed(params, output.hidden_BTD)
        return {**layers, "hidden": output.hidden_BTD, "logits": logits}

    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        for name, value in look(trainee.train(RATE, seed, updates)).items():
            size = float(np.sqrt(np.mean(np.square(value))))
            found.setdefault(name, []).append(size)
    return {name: float(np.exp(np.mean(np.log(values)))) for name, values in found.items()}


def slopes(*, mup: bool, seeds: int) -> dict[str, float]:
    """By which power of the width each size grows."""
    found = [sizes(width, mup=mup, seeds=seeds) for width in WIDTHS]
    return {
        name: float(np.polyfit(np.log(WIDTHS), np.log([each[name] for each in found]), 1)[0])
        for name in found[0]
    }


@pytest.mark.slow
def test_what_a_model_computes_has_the_same_size_at_every_width_only_with_mup() -> None:
    found = slopes(mup=True, seeds=6)
    assert {name.partition("/")[0] for name in found} == {*SITES, "hidden", "logits"}
    assert max(map(abs, found.values())) < 0.05, found
    control = slopes(mup=False, seeds=1)
    assert min(control[name] for name in ("mlp_out/0", "mlp_out/1", "hidden")) > 0.3, control


# The rates that are tried, as powers of two.
POWERS = range(-9, -4)


def losses(width: int, *, mup: bool, steps: int = 60, seeds: int = 2) -> np.ndarray:
    """Held-out nats per character after a short run at every rate, averaged over seeds."""
    trainee, held = Trainee(width, mup=mup, schedule="warmup_linear"), rows_of(999, 128)
    measure = jax.jit(functools.partial(loss_sums, trainee.recipe))

    def loss(power: int, seed: int) -> float:
        params = trainee.train(2.0**power, seed, steps, warmup_steps=6, min_ratio=0.0)
        sums = measure(params, held)
        return float(sums.nats / sums.tokens)

    return np.array([np.mean([loss(power, seed) for seed in range(seeds)]) for power in POWERS])


@pytest.mark.slow
def test_the_best_rate_stays_over_four_times_the_width_only_with_mup() -> None:
    # At the base width both are one model, so one search serves both.
    arms = {"narrow": (BASE, True), "wide": (4 * BASE, True), "control": (4 * BASE, False)}
    found = {name: losses(width, mup=mup) for name, (width, mup) in arms.items()}
    best = {name: int(np.argmin(each)) for name, each in found.items()}
    assert all(0 < place < len(POWERS) - 1 for place in best.values()), (best, "the grid is short")
    assert abs(best["wide"] - best["narrow"]) <= 1, found
    assert best["narrow"] - best["control"] >= 2, found
