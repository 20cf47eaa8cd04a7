"""Train a GPT: from a config file to a run directory, and from a run directory on.

    python -m nanogpt_jax.main --config=configs/minigpt.py [--workdir=DIR]
        [--config.SECTION.FIELD=VALUE ...] [--fresh | --require_checkpoint]
        [--allow_change=FIELD[,FIELD]] [--coordinator=HOST:PORT --num_processes=N --process_id=I]

The same command again goes on where the run stands. docs/configuration.md lists every field.
"""

from __future__ import annotations

from nanogpt_jax import interrupt

if __name__ == "__main__":
    interrupt.end_at_signals()  # the next imports take seconds

from pathlib import Path
from typing import Annotated

from absl import logging

from nanogpt_jax import checkpoint, cli, distributed
from nanogpt_jax.errors import ConfigError


def main(
    *,
    config: Annotated[str, "config file, PATH[:ARGUMENT]; see configs/"],
    workdir: Annotated[str, "run directory; default checkpoints/<config name>"] = "",
    fresh: Annotated[bool, "start over: remove the run that the directory holds"] = False,
    require_checkpoint: Annotated[bool, "go on from a checkpoint, or fail"] = False,
    allow_change: Annotated[str, "go on although these fields differ: FIELD[,FIELD]"] = "",
    processes: distributed.Processes,
    overrides: cli.Overrides,
) -> None:
    """Trains, then prints a sample, a table where the config compares runs, or what phases gave."""
    logging.set_verbosity(logging.INFO)
    if fresh and require_checkpoint:
        raise ConfigError("--fresh and --require_checkpoint contradict each other: choose one")
    if fresh and allow_change:
        raise ConfigError("--allow_change is for a run that goes on: leave it out, or --fresh")
    directory = Path(workdir or default_workdir(config)).expanduser().resolve()
    if distributed.is_alone(processes):
        checkpoint.require_free(directory)  # before what takes long
    from nanogpt_jax import comparison, experiment, phases, train
    from nanogpt_jax.start import Start

    allowed = tuple(filter(None, allow_change.split(",")))
    start = Start(fresh=fresh, require_checkpoint=require_checkpoint, allow_change=allowed)
    settings = experiment.load_config(config)
    variants, ordered = experiment.load_variants(config), experiment.load_phases(config)
    if allowed and (variants or ordered):
        raise ConfigError(f"--allow_change is for one run, {config} trains several: leave it out")
    if variants or ordered:
        distributed.require_alone(processes, f"--config={config} trains several runs, and")
    if variants:
        print(comparison.compare(settings, variants, directory, overrides, start))
        return
    if ordered:
        print(phases.train_phases(settings, ordered, directory, overrides, start))
        return
    plan = experiment.resolve(settings, overrides)
    with distributed.joined(processes):
        sample = train.train(plan, directory, overrides, start)
        if distributed.is_first():
            print(sample)


def default_workdir(config: str) -> str:
    """`checkpoints/<config name>[-<argument>]`."""
    path, colon, argument = config.partition(":")
    return f"checkpoints/{Path(path).stem}{'-' * bool(colon)}{argument}"


if __name__ == "__main__":
    cli.run(main, __doc__)
