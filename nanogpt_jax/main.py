"""Train a GPT: from a config file to a run directory, and from a run directory on.

    python -m nanogpt_jax.main --config=configs/minigpt.py [--workdir=DIR]
        [--config.SECTION.FIELD=VALUE ...] [--fresh | --require_checkpoint]

The same command again goes on where the run stands.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags, logging

from nanogpt_jax import cli, comparison, experiment, train
from nanogpt_jax.errors import ConfigError


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("config", None, "config file, PATH[:ARGUMENT]; see configs/", required=True)
    flags.DEFINE_string("workdir", None, "run directory; default checkpoints/<config name>")
    flags.DEFINE_bool("fresh", False, "start over: remove the run that the directory holds")
    flags.DEFINE_bool("require_checkpoint", False, "go on from a checkpoint, or fail")


def main(words: list[str]) -> None:
    """Trains, then prints a sample."""
    given = flags.FLAGS
    logging.set_verbosity(logging.INFO)
    if given.fresh and given.require_checkpoint:
        raise ConfigError("--fresh and --require_checkpoint contradict each other: choose one")
    assignments = cli.assignments(words)
    workdir = Path(given.workdir or default_workdir(given.config)).expanduser().resolve()
    choice = {
        "overrides": words,
        "fresh": given.fresh,
        "require_checkpoint": given.require_checkpoint,
    }
    config = experiment.load_config(given.config)
    if variants := experiment.load_variants(given.config):
        print(comparison.compare(config, variants, assignments, workdir, **choice))
        return
    plan = experiment.resolve(experiment.SCHEMA.override(config, assignments))
    print(train.train(plan, workdir, **choice))


def default_workdir(config: str) -> str:
    """`checkpoints/<config name>[-<argument>]`."""
    path, colon, argument = config.partition(":")
    return f"checkpoints/{Path(path).stem}{'-' * bool(colon)}{argument}"


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__)
