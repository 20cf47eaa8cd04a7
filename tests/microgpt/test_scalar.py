"""The scalar engine: slopes of single numbers, the data, and the original's first fifty losses."""

import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from nanogpt_jax.microgpt import scalar
from nanogpt_jax.microgpt.scalar import Corpus, Settings, Value, draw_weights, surprise
from tests.microgpt.starting import start

# Functions of two numbers, each with all the ways in which an operation may meet a float.
OPERATIONS: dict[str, Callable[[Value, Value], Value]] = {
    "plus": lambda x, y: x + y + 3.0,
    "times": lambda x, y: x * y * 3.0,
    "minus": lambda x, y: x - y * 2.0 - 3.0,
    "divided": lambda x, y: x / y / 3.0,
    "power": lambda x, y: x**-0.5 + y**3.0,
    "exp": lambda x, y: (x * y).exp(),
    "log": lambda x, y: (x * y).log(),
    "relu": lambda x, y: (x - y).relu() + (y - x).relu() * 5.0,
    "used again": lambda x, y: (x * x + y) * (x * x + y) + x,
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_slopes_are_those_of_small_differences(operation: Callable[[Value, Value], Value]):
    x, y = Value(1.7), Value(0.6)
    operation(x, y).backward()

    def difference(dx: float, dy: float) -> float:
        after, before = (
            operation(Value(1.7 + sign * dx), Value(0.6 + sign * dy)).data for sign in (1, -1)
        )
        return (after - before) / 2e-5

    assert x.grad == pytest.approx(difference(1e-5, 0.0), rel=1e-8)
    assert y.grad == pytest.approx(difference(0.0, 1e-5), rel=1e-8)


def test_relu_has_no_slope_at_zero():
    x = Value(0.0)
    (x.relu() * 2.0).backward()
    assert x.grad == 0.0


def test_backward_needs_no_recursion():
    x = Value(1.0)
    result = x
    for _ in range(20_000):
        result = result + x
    result.backward()
    assert x.grad == 20_001.0


def test_a_token_that_the_model_excludes_costs_a_finite_surprise():
    logits = [Value(0.0), Value(-2000.0)]
    nats = surprise(logits, target=1)
    nats.backward()
    assert (nats.data, logits[1].grad) == (2000.0, -1.0)


def test_the_first_weights_are_those_of_the_original(names_text: str):
    stream = Random(42)
    corpus = Corpus(names_text, stream)
    assert " ".join(corpus.documents[:4]) == "yuheng diondre xavien jori"
    assert (len(corpus.documents), corpus.bos) == (32_033, 26)
    numbers = draw_weights(stream, 27, Settings())
    flat = [number for rows in numbers.values() for row in rows for number in row]
    assert len(flat) == 4192
    assert numbers["wpe"][0][0] == -0.02223609248240166
    assert numbers["lm_head"][0][0] == -0.039772039438591464
    assert numbers["layer0.wq"][0][0] == 0.045191756482706506
    assert flat[-1] == -0.09496111892676082
    assert math.fsum(flat) == pytest.approx(4.289341802239092, abs=1e-12)
    assert stream.random() == 0.5713543597375992


@pytest.mark.parametrize(("layers", "block", "count"), [(1, 8, 4064), (2, 16, 7264)])
def test_the_number_of_weights_follows_the_formula(layers: int, block: int, count: int):
    """E (2 V + B) + 12 E² L."""
    numbers = draw_weights(Random(0), 27, Settings(n_layer=layers, block_size=block))
    assert sum(len(row) for rows in numbers.values() for row in rows) == count


def test_a_document_that_is_cut_ends_with_its_next_character_or_with_bos():
    corpus = Corpus("abcd\n", Random(0))
    as_original, as_matrix_system = (
        Settings(block_size=3, last_target=rule) for rule in ("next", "bos")
    )
    assert corpus.window(0, as_original) == [4, 0, 1, 2]
    assert corpus.window(0, as_matrix_system) == [4, 0, 1, 4]
    for rule in ("next", "bos"):
        assert corpus.window(7, Settings(last_target=rule)) == [4, 0, 1, 2, 3, 4]
    assert corpus.decode([0, 3]) == "ad"


def test_the_file_is_short_enough_to_read():
    assert len(Path(scalar.__file__).read_text().splitlines()) < 250


@pytest.mark.slow
@pytest.mark.usefixtures("_no_garbage")
def test_the_first_fifty_losses_are_those_of_the_original(names_text: str, golden: dict):
    started = start(scalar, names_text, Settings())
    losses = [
        loss for loss, _ in zip(started.gpt.train(started.windows()), range(50), strict=False)
    ]
    assert losses == pytest.approx(golden["losses_first_50"], rel=0, abs=1e-10)
