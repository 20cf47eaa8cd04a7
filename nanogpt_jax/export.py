"""Write a run as a folder that transformers opens: weights, configs, tokenizer, chat template.

python -m nanogpt_jax.export --workdir=DIR --output=FOLDER [--step=N|last|best]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from nanogpt_jax import cli, experiment
from nanogpt_jax.interop import write_pretrained


def main(
    *,
    workdir: cli.Workdir,
    output: Annotated[Path, "folder to write; files of the same names are replaced"],
    step: cli.Step = "last",
) -> None:
    """Exports one checkpoint; refuses a config that no class of transformers carries exactly."""
    cli.quiet()
    run = experiment.load(workdir, step)
    name, config = run.plan.model_name, run.plan.model
    opens = not run.record.corpus["running"]
    family = write_pretrained(
        output, name, config, run.model, run.params, run.tokenizer, opens=opens
    )
    print(f"{output}: {family.architecture}, {run.record.parameters:,} parameters, step {run.step}")


if __name__ == "__main__":
    cli.run(main, __doc__)
