"""Train a GPT: from a config file to a run directory, and from a run directory on.

    python -m nanogpt_jax.main --config=configs/minigpt.py [--workdir=DIR]
        [--config.SECTION.FIELD=VALUE ...] [--fresh | --require_checkpoint]

The same command again goes on where the run stands. docs/configuration.md lists every field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from absl import logging

from nanogpt_jax import cli, comparison, experiment, phases, train
from nanogpt_jax.errors import ConfigError


def main(
    *,
    config: Annotated[str, "config file, PATH[:ARGUMENT]; see configs/"],
    workdir: Annotated[str, "run directory; default checkpoints/<config name>"] = "",
    fresh: Annotated[bool, "start over: remove the run that the directory holds"] = False,
    require_checkpoint: Annotated[bool, "go on from a checkpoint, or fail"] = False,
    overrides: cli.Overrides,
) -> None:
    """Trains, then prints a sample, a table where the config compares runs, or what phases gave."""
    logging.set_verbosity(logging.INFO)
    if fresh and require_checkpoint:
        raise ConfigError("--fresh and --require_checkpoint contradict each other: choose one")
    directory = Path(workdir or default_workdir(config)).expanduser().resolve()
    start = train.Start(fresh=fresh, require_checkpoint=require_checkpoint)
    settings = experiment.load_config(config)
    if variants := experiment.load_variants(config):
        print(comparison.compare(settings, variants, directory, overrides, start))
        return
    if ordered := experiment.load_phases(config):
        print(phases.train_phases(settings, ordered, directory, overrides, start))
        return
    plan = experiment.resolve(settings, overrides)
    print(train.train(plan, directory, overrides, start))


def default_workdir(config: str) -> str:
    """`checkpoints/<config name>[-<argument>]`."""
    path, colon, argument = config.partition(":")
    return f"checkpoints/{Path(path).stem}{'-' * bool(colon)}{argument}"


if __name__ == "__main__":
    cli.run(main, __doc__)
