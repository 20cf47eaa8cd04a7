"""Measure a trained run on its held-out data, each mean with its standard error.

python -m nanogpt_jax.evaluate --workdir=DIR [--step=N|last|best] [--batches=32]
"""

from __future__ import annotations

from absl import flags

from nanogpt_jax import cli, experiment
from nanogpt_jax.errors import ConfigError


def define_flags() -> None:
    """The flags of this command."""
    cli.define_run_flags()
    flags.DEFINE_integer("batches", 32, "held-out batches to measure at most", lower_bound=1)


def main(words: list[str]) -> None:
    """Prints one metric a line."""
    if words:
        raise ConfigError(f"{words[0]!r} is not understood; give flags only")
    cli.quiet()
    run = experiment.load(cli.workdir(), flags.FLAGS.step)
    values, _ = experiment.open_evaluator(run, flags.FLAGS.batches)(run.params)
    print(f"step {run.step}")
    for name, value in values.items():
        if not name.endswith("_se"):
            error = values.get(f"{name}_se")
            print(f"{name} {value:.4f}" + (f" ± {error:.4f}" if error is not None else ""))


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__)
