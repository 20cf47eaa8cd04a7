"""Three engines, one algorithm: the same slopes, losses and names, and the original's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax.microgpt import __main__ as command
from nanogpt_jax.microgpt import jax_engine, matrix, scalar
from nanogpt_jax.microgpt.scalar import Settings
from tests.microgpt.starting import start

ENGINES = [scalar, matrix, jax_engine]
SMALL = Settings(num_steps=12, n_layer=2, n_embd=6, n_head=2, block_size=7, samples=8)
# Longer and shorter than that context, and fewer than those steps.
DOCUMENTS = "abracadabra\nbanana\na\ncab\nabacus dabs a banana\n"


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(n_layer=2, n_head=1, n_embd=6, block_size=5, seed=1),
    ],
)
def test_slopes_derived_by_hand_are_those_of_jax(settings: Settings, names_text: str):
    started = start(matrix, names_text, settings)
    slopes = jax.jit(jax.value_and_grad(jax_engine.loss), static_argnames="settings")
    for tokens in started.windows()[:3]:
        loss, by_hand = matrix.loss_and_gradients(started.gpt.weights, tokens, settings)
        with jax.enable_x64(True):
            weights = jax.tree.map(jnp.asarray, started.gpt.weights)
            [window] = zip(*jax_engine.pad([tokens], settings.block_size), strict=True)
            nats, by_jax = slopes(weights, jax_engine.Window(*window), settings=settings)
        assert loss == pytest.approx(float(nats), rel=0, abs=1e-13)
        assert by_hand.keys() == by_jax.keys()
        for name, expected in jax.tree.map(np.asarray, by_jax).items():
            scale = np.abs(expected).max()
            assert expected.dtype == np.float64 and scale > 0, name
            np.testing.assert_allclose(by_hand[name], expected, rtol=0, atol=1e-12 * scale)


def test_all_engines_lose_and_invent_the_same():
    started = [start(engine, DOCUMENTS, SMALL) for engine in ENGINES]
    by_scalar, by_matrix, by_jax = (each.losses() for each in started)
    assert len(by_scalar) == 12 and by_scalar[5] < by_scalar[0]  # the same document again
    assert by_matrix == pytest.approx(by_scalar, rel=0, abs=1e-12)
    assert by_jax == pytest.approx(by_scalar, rel=0, abs=1e-12)
    names, *others = (each.names() for each in started)
    assert len(set(names)) > 1
    assert others == [names, names]


def test_the_two_rules_differ_in_what_a_cut_document_teaches():
    by_rule = [
        start(matrix, DOCUMENTS, replace(SMALL, last_target=rule)).losses()
        for rule in ("next", "bos")
    ]
    assert by_rule[0] != by_rule[1]


def test_no_name_is_cut_so_both_rules_are_the_original(names_text: str):
    windows = [
        start(matrix, names_text, Settings(last_target=rule, num_steps=32_033)).windows()
        for rule in ("next", "bos")
    ]
    assert windows[0] == windows[1]


def test_matrix_and_jax_agree_in_all_thousand_losses_and_all_names(
    names_text: str, golden: dict[str, Any]
):
    by_matrix, by_jax = (start(engine, names_text, Settings()) for engine in (matrix, jax_engine))
    losses, others = by_matrix.losses(), by_jax.losses()
    assert len(losses) == 1000
    assert others == pytest.approx(losses, rel=0, abs=1e-10)
    assert losses[:50] == pytest.approx(golden["losses_first_50"], rel=0, abs=1e-10)
    names = by_matrix.names()
    assert len(names) == 20
    assert by_jax.names() == names
    assert names[:3] == golden["samples_first_3"]


@pytest.mark.parametrize("engine", ["matrix", "jax"])
def test_the_command_prints_what_the_original_prints(
    engine: str,
    data_file: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("NANOGPT_DATA", str(data_file("names.txt").parent))
    command.main([f"--engine={engine}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "num docs: 32033",
        "vocab size: 27",
        "num params: 4192",
        "step    1 / 1000 | loss 3.3660",
    ]
    assert lines[1002] == "step 1000 / 1000 | loss 2.6497"
    assert lines[-20:-17] == ["sample  1: kamon", "sample  2: ann", "sample  3: karai"]
    assert lines[-1] == "sample 20: anton"


@pytest.mark.parametrize(
    "updates",
    [pytest.param(100, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.sweep)],
)
@pytest.mark.usefixtures("_no_garbage")
def test_scalar_agrees_with_matrix_in_all_losses_and_all_names(names_text: str, updates: int):
    settings = Settings(num_steps=updates)
    by_scalar, by_matrix = (start(engine, names_text, settings) for engine in (scalar, matrix))
    losses = by_scalar.losses()
    assert len(losses) == updates
    assert losses == pytest.approx(by_matrix.losses(), rel=0, abs=1e-10)
    assert by_scalar.names() == by_matrix.names()


def test_the_training_of_the_jax_engine_is_one_loop():
    started = start(jax_engine, DOCUMENTS, SMALL)
    with jax.enable_x64(True):
        windows = jax_engine.pad(started.windows(), SMALL.block_size)
        program = jax_engine.fit.lower(started.gpt.weights, windows, SMALL).as_text()
    assert program.count("stablehlo.while") == 1
    assert "f64" in program and "f32" not in program


def test_float64_stays_inside_the_jax_engine():
    started = start(jax_engine, DOCUMENTS, SMALL)
    outside = [jnp.zeros(()).dtype]
    for _ in started.gpt.train(started.windows()):
        outside.append(jnp.zeros(()).dtype)
    read = started.gpt.reader()
    read(started.corpus.bos)
    outside.append(jnp.zeros(()).dtype)
    assert {*outside} == {np.dtype(np.float32)}
    assert {weights.dtype for weights in started.gpt.weights.values()} == {np.dtype(np.float64)}
