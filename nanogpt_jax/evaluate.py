"""Measure a trained run on its held-out data, each mean with its standard error.

python -m nanogpt_jax.evaluate --workdir=DIR [--step=N|last|best] [--batches=32]
"""

from __future__ import annotations

from typing import Annotated

from nanogpt_jax import cli, experiment
from nanogpt_jax.registry import positive


def main(
    *,
    workdir: cli.Workdir,
    step: cli.Step = "last",
    batches: Annotated[int, "held-out batches to measure at most", positive] = 32,
    source: Annotated[str, "data.source, should the corpus lie elsewhere now"] = "",
) -> None:
    """Prints one metric a line."""
    cli.quiet()
    run = experiment.load(workdir, step)
    values, _ = experiment.open_evaluator(run, batches, source)(run.params)
    print(f"step {run.step}")
    for name, value in values.items():
        if not name.endswith("_se"):
            error = values.get(f"{name}_se")
            print(f"{name} {value:.4f}" + (f" ± {error:.4f}" if error is not None else ""))


if __name__ == "__main__":
    cli.run(main, __doc__)
