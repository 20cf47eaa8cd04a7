"""Measure what this code does beside other ways to do it.

python -m nanogpt_jax.bench decode --workdir=DIR [--step=N|last|best] [--draft=lookup|DIR]
    [--rounds=7] [--json=FILE]
"""

from __future__ import annotations

import dataclasses
import json as json_
from pathlib import Path
from typing import Annotated

from absl import logging

from nanogpt_jax import cli, experiment
from nanogpt_jax.bench import decode as decoding
from nanogpt_jax.registry import positive
from nanogpt_jax.runtime import describe_devices
from nanogpt_jax.speculation import PromptLookup
from nanogpt_jax.tokenization.writing import write_whole


def decode(
    *,
    workdir: cli.Workdir,
    step: cli.Step = "last",
    draft: Annotated[str, "run directory of a smaller model that guesses ahead"] = "",
    rounds: Annotated[int, "rounds of each way, taking turns", positive] = 7,
    json: Annotated[str, "file for the times of every round"] = "",
) -> None:
    """Naive against cached generation, and with drafts, for several lengths."""
    cli.quiet()
    logging.info(describe_devices())
    run = experiment.load(workdir, step)
    proposers: dict[str, decoding.Proposer] = {"lookup": PromptLookup()}
    if proposer := experiment.open_drafts(draft, run):
        proposers["draft"] = proposer
    prompt = experiment.prompt_tokens(run, "")
    rows = decoding.measure(run, prompt, proposers, rounds=rounds)
    print(decoding.render(rows, run.shape.max_seq_len))
    if json:
        found = [row._asdict() | {"speculation": _plain(row.speculation)} for row in rows]
        write_whole(Path(json), json_.dumps(found, indent=1))


def _plain(found: decoding.Speculation | None) -> dict[str, int] | None:
    return None if found is None else dataclasses.asdict(found)


COMMANDS = {"decode": decode}

if __name__ == "__main__":
    cli.run(COMMANDS, __doc__)
