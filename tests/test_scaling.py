"""A law of scaling: recovered from runs that follow one, refused where runs cannot tell it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="found no scipy")

from nanogpt_jax import scaling
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.scaling import Law, Point, fit_law, fit_runs
from tests.runs import small_run

TRUE = Law(irreducible=0.2169, a=4.0, alpha=0.35, b=20.0, beta=0.4)
SIZES, BUDGETS = (1e5, 3e5, 1e6, 3e6), (1e6, 4e6, 1.6e7)


def points(noise: float = 0.0, seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [
        Point(n, d, TRUE.loss(n, d) * float(np.exp(noise * rng.normal())))
        for n in SIZES
        for d in BUDGETS
    ]


def test_a_law_without_noise_is_recovered() -> None:
    found = fit_law(points())
    assert found.irreducible == pytest.approx(TRUE.irreducible, rel=0.01)
    assert (found.alpha, found.beta) == pytest.approx((TRUE.alpha, TRUE.beta), rel=0.02)
    assert found.loss(1e7, 3e7) == pytest.approx(TRUE.loss(1e7, 3e7), rel=0.001)


@pytest.mark.slow
def test_with_noise_the_intervals_hold_what_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "RESAMPLES", 40)
    held = 0
    for seed in range(5):
        found = fit_runs(points(noise=0.005, seed=seed), TRUE.irreducible, seed)
        low, high = found.interval("irreducible")
        held += low <= TRUE.irreducible <= high
        loss, low, high = found.predict(1e7, 3e7)
        assert low <= loss <= high and loss == pytest.approx(TRUE.loss(1e7, 3e7), rel=0.1)
    assert held >= 3
    assert "known entropy 0.2169" in scaling.render(found)


def test_runs_of_two_sizes_tell_no_law() -> None:
    with pytest.raises(ValueError, match="three or more sizes"):
        fit_law([each for each in points() if each.parameters < 1e6])


def test_a_prediction_is_written_once_and_before_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit, prediction = tmp_path / "fit.json", tmp_path / "prediction.json"
    found = scaling.Fit(TRUE, (TRUE, TRUE), tuple(points()), None)
    fit.write_text(json.dumps(scaling._plain(found)))
    assert scaling.read_fit(fit) == found
    small_run(tmp_path / "run")
    run, _ = scaling.read_run(tmp_path / "run")
    about = {"parameters": int(run.parameters), "tokens": int(run.tokens)}
    scaling.predict(fit=str(fit), **about, json=str(prediction))
    with pytest.raises(ConfigError, match="a prediction is made once"):
        scaling.predict(fit=str(fit), **about, json=str(prediction))
    with pytest.raises(ConfigError, match="is younger than"):
        scaling.score(prediction=str(prediction), workdir=tmp_path / "run")
    os.utime(prediction, (0, 0))
    scaling.score(prediction=str(prediction), workdir=tmp_path / "run")
    assert "outside the interval" in capsys.readouterr().out
    said = json.loads(prediction.read_text()) | {"tokens": 10 * about["tokens"]}
    prediction.write_text(json.dumps(said))
    os.utime(prediction, (0, 0))
    with pytest.raises(ConfigError, match="the run that was predicted is required"):
        scaling.score(prediction=str(prediction), workdir=tmp_path / "run")


def test_a_folder_without_enough_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    small_run(tmp_path / "runs/0")
    with pytest.raises(ConfigError, match="three or more sizes"):
        scaling.fit(runs=str(tmp_path / "runs"))
    with pytest.raises(ConfigError, match="found runs of 0 corpora"):
        scaling.fit(runs=str(tmp_path))
