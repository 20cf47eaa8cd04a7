"""How loss falls with parameters and data: a law fitted to finished runs, and held to others.

    python -m nanogpt_jax.scaling fit --runs=DIR --json=FIT
    python -m nanogpt_jax.scaling predict --fit=FIT --parameters=N --tokens=D --json=PREDICTION
    python -m nanogpt_jax.scaling score --prediction=PREDICTION --workdir=RUN

DIR holds run directories, as a sweep leaves them. What a prediction is worth, `score` alone says:
it refuses one that is younger than the run.
"""

from __future__ import annotations

import dataclasses
import json as json_
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from scipy import optimize

from nanogpt_jax import checkpoint, cli, record
from nanogpt_jax.errors import ConfigError, DataError
from nanogpt_jax.metrics import read_metrics
from nanogpt_jax.registry import positive
from nanogpt_jax.tokenization.writing import write_whole

HUBER = 1e-3  # beyond this error of a logarithm, points pull no harder (arXiv:2203.15556, D.2)
RESAMPLES = 200
CONFIDENCE = 0.95
# From where the fit sets out, the least of all being kept, for the loss has several valleys: E as a
# share of the lowest loss seen, and the exponents.
STARTS = [(e, alpha, beta) for e in (0.5, 0.9, 0.99) for alpha in (0.3, 0.8) for beta in (0.3, 0.8)]


class Point(NamedTuple):
    """A finished run: parameters, tokens that it was trained on, and its loss in nats."""

    parameters: float
    tokens: float
    loss: float


@dataclasses.dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556)."""

    irreducible: float  # E, in nats
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """What a model of so many parameters reaches with so many tokens."""
        return self.irreducible + self.a / parameters**self.alpha + self.b / tokens**self.beta


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law, and those of resampled runs, which say how sure it is."""

    law: Law
    resampled: tuple[Law, ...]
    points: tuple[Point, ...]
    known: float | None  # the entropy of the corpus in nats, where it is known

    def interval(self, field: str) -> tuple[float, float]:
        """The central 95 % of a field over the resamples."""
        return _central([getattr(law, field) for law in self.resampled])

    def predict(self, parameters: float, tokens: float) -> tuple[float, float, float]:
        """The loss of a model that was not seen, and the ends of its interval."""
        low, high = _central([law.loss(parameters, tokens) for law in self.resampled])
        return self.law.loss(parameters, tokens), low, high


def _central(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def fit_law(points: Sequence[Point], near: Law | None = None) -> Law:
    """The law with the least Huber loss of logarithms, or the one in the valley of `near`.

    ValueError where the points cannot tell one.
    """
    if len({each.parameters for each in points}) < 3 or len({each.tokens for each in points}) < 3:
        raise ValueError(
            f"found {len(points)} runs; three or more sizes and three or more budgets are required"
        )
    n, d, loss = (np.array(column, np.float64) for column in zip(*points, strict=True))
    # Centred, so that coefficients and exponents do not trade places.
    middle_n, middle_d = float(np.log(n).mean()), float(np.log(d).mean())
    log_n, log_d = np.log(n) - middle_n, np.log(d) - middle_d
    scale = float(loss.min())

    def residuals(free: np.ndarray) -> np.ndarray:
        e, a, alpha, b, beta = free
        terms = scale * e + np.exp(a - alpha * log_n) + np.exp(b - beta * log_d)
        return np.log(terms) - np.log(loss)

    def slopes(free: np.ndarray) -> np.ndarray:
        e, a, alpha, b, beta = free
        of_n, of_d = np.exp(a - alpha * log_n), np.exp(b - beta * log_d)
        columns = np.full_like(of_n, scale), of_n, -log_n * of_n, of_d, -log_d * of_d
        return np.stack(columns, axis=1) / (scale * e + of_n + of_d)[:, None]

    jac: Any = slopes  # scipy's stubs know only names
    spread = math.log(max(float(loss.max()) - scale, 1e-9))
    starts = [(e, spread, alpha, spread, beta) for e, alpha, beta in STARTS]
    if near is not None:
        a, b = math.log(near.a) - near.alpha * middle_n, math.log(near.b) - near.beta * middle_d
        starts = [(min(near.irreducible / scale, 1.0), a, near.alpha, b, near.beta)]
    low, high = [0.0, -30.0, 0.0, -30.0, 0.0], [1.0, 10.0, 5.0, 10.0, 5.0]
    found = [
        optimize.least_squares(
            residuals,
            np.clip(start, low, high),
            jac,
            bounds=(low, high),
            loss="huber",
            f_scale=HUBER,
        )
        for start in starts
    ]
    e, a, alpha, b, beta = map(float, min(found, key=lambda each: each.cost).x)
    return Law(
        irreducible=scale * e,
        a=math.exp(a + alpha * middle_n),
        alpha=alpha,
        b=math.exp(b + beta * middle_d),
        beta=beta,
    )


def fit_runs(points: Sequence[Point], known: float | None, seed: int = 0) -> Fit:
    """The law of `points`, and of as many drawn from them with replacement, again and again."""
    law = fit_law(points)
    rng = np.random.default_rng(seed)
    resampled = []
    while len(resampled) < RESAMPLES:
        drawn = [points[index] for index in rng.integers(len(points), size=len(points))]
        try:
            resampled.append(fit_law(drawn, law))
        except ValueError:  # too few sizes among them
            continue
    return Fit(law, tuple(resampled), tuple(points), known)


def read_run(workdir: Path) -> tuple[Point, float | None]:
    """A finished run as a point, in nats a character where the corpus's entropy is known."""
    about = record.read(workdir)
    step = checkpoint.choose(workdir, "last", full=True)
    sidecar = checkpoint.read_sidecar(workdir, step)
    values = read_metrics(workdir / "metrics.jsonl").get(step, {})
    if "val/loss" not in values:
        raise DataError(f"{workdir} has no val/loss at its last step {step}: let it end first")
    entropy = values.get("val/entropy_nats")
    loss = values["val/loss"] if entropy is None else entropy + values["val/excess_nats"]
    return Point(about.parameters, sidecar.tokens_seen, loss), entropy


def fit(
    *,
    runs: Annotated[str, "folder of run directories, such as the trials of a sweep"],
    json: Annotated[str, "file for the law and its intervals"] = "",
) -> None:
    """Fits the law to all runs of a folder, and prints it with its intervals."""
    folders = sorted(path.parent for path in Path(runs).glob("*/run.json"))
    found = [read_run(folder) for folder in folders]
    known = {entropy for _, entropy in found}
    if len(known) != 1:
        raise ConfigError(f"--runs={runs}: found runs of {len(known)} corpora; one is required")
    try:
        fitted = fit_runs([point for point, _ in found], known.pop())
    except ValueError as error:
        raise ConfigError(f"--runs={runs}: {error}") from error
    print(render(fitted))
    if json:
        write_whole(Path(json), json_.dumps(_plain(fitted), indent=1))


def render(fitted: Fit) -> str:
    """A line for each term with its interval, and what is known of it."""
    lines = []
    for field in dataclasses.fields(Law):
        low, high = fitted.interval(field.name)
        value = getattr(fitted.law, field.name)
        lines.append(f"{field.name.ljust(12)} {value:.4g} (95 %: {low:.4g} to {high:.4g})")
    if fitted.known is not None:
        low, high = fitted.interval("irreducible")
        inside = "within" if low <= fitted.known <= high else "OUTSIDE"
        lines.append(f"known entropy {fitted.known:.4f} nats a character: {inside} the interval")
    return "\n".join(lines)


def predict(
    *,
    fit: Annotated[str, "what `fit --json=FIT` has written"],
    parameters: Annotated[int, "of the model to come", positive],
    tokens: Annotated[int, "that it will be trained on", positive],
    json: Annotated[str, "file for the prediction, which must not exist yet"],
) -> None:
    """Writes down what a run that nobody has seen will reach."""
    if Path(json).exists():
        raise ConfigError(f"--json={json} exists: a prediction is made once; choose another name")
    loss, low, high = read_fit(Path(fit)).predict(parameters, tokens)
    said = {"parameters": parameters, "tokens": tokens, "loss": loss, "low": low, "high": high}
    write_whole(Path(json), json_.dumps(said, indent=1))
    print(f"{loss:.4f} nats (95 %: {low:.4f} to {high:.4f})")


def score(
    *,
    prediction: Annotated[str, "what `predict --json=PREDICTION` has written"],
    workdir: cli.Workdir,
) -> None:
    """Says how far a prediction was from the run that it was about."""
    file = Path(prediction)
    said = json_.loads(file.read_text(encoding="utf-8"))
    began = (workdir / "run.json").stat().st_mtime
    if file.stat().st_mtime > began:
        raise ConfigError(
            f"{prediction} is younger than {workdir}: one that was written before the run started "
            "is required"
        )
    point, _ = read_run(workdir)
    for name in ("parameters", "tokens"):
        if abs(said[name] / getattr(point, name) - 1) > 0.05:
            raise ConfigError(
                f"{prediction} is about {said[name]:,} {name}, {workdir} has "
                f"{getattr(point, name):,}: the run that was predicted is required"
            )
    inside = "within" if said["low"] <= point.loss <= said["high"] else "outside"
    error = point.loss / said["loss"] - 1
    print(
        f"predicted {said['loss']:.4f} ({said['low']:.4f} to {said['high']:.4f}), found "
        f"{point.loss:.4f}: {100 * error:+.2f} %, {inside} the interval"
    )


def _plain(fitted: Fit) -> dict[str, Any]:
    return {
        "law": dataclasses.asdict(fitted.law),
        "resampled": [dataclasses.asdict(law) for law in fitted.resampled],
        "points": [point._asdict() for point in fitted.points],
        "known": fitted.known,
    }


def read_fit(path: Path) -> Fit:
    """What `fit` has written."""
    try:
        held = json_.loads(path.read_text(encoding="utf-8"))
        return Fit(
            Law(**held["law"]),
            tuple(Law(**each) for each in held["resampled"]),
            tuple(Point(**each) for each in held["points"]),
            held["known"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--fit={path}: {error!r}; the file of `scaling fit --json=FILE` is required"
        ) from error


if __name__ == "__main__":
    cli.run({"fit": fit, "predict": predict, "score": score}, __doc__)
