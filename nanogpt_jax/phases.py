"""Several phases of one config, side by side in one folder, each starting from the one before.

A config file that defines `get_phases()` asks for it. Every phase is an ordinary run: it resumes
like any other, and once it has begun it never looks back at the phase it started from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging

from nanogpt_jax import checkpoint
from nanogpt_jax.comparison import resolve_variants
from nanogpt_jax.config import Settings
from nanogpt_jax.experiment import Plan, load, prompt_tokens
from nanogpt_jax.generate import Generator
from nanogpt_jax.start import GO_ON, Start
from nanogpt_jax.train import train


def train_phases(
    config: Settings,
    phases: Mapping[str, Mapping[str, object]],
    parent: Path,
    overrides: Sequence[tuple[str, str]] = (),
    start: Start = GO_ON,
) -> str:
    """Trains every phase under `parent` in order; all are resolved before the first one trains.

    Returns `eval.prompt` answered by the first and by the last checkpoint of all, or the sample of
    the last phase where nothing is asked. Of `start`, only the first phase must have a checkpoint.
    """
    plans, sample = resolve_phases(config, phases, parent, overrides), ""
    for name, plan in plans.items():
        logging.info("phase %s", name)
        sample = train(plan, parent / name, overrides, start)
        start = dataclasses.replace(start, require_checkpoint=False)
    names = list(plans)
    first, last = names[0], names[-1]
    question = plans[last].eval.prompt
    if not question:
        return sample
    oldest = checkpoint.list_steps(parent / first)[0]
    before = answer(parent / first, str(oldest), question)
    after = answer(parent / last, "last", question)
    return f"{question}\nbefore ({first}, step {oldest}): {before}\nafter ({last}): {after}"


def resolve_phases(
    config: Settings,
    phases: Mapping[str, Mapping[str, object]],
    parent: Path,
    overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, Plan]:
    """The plan of every phase: `init.from` names the one before, then its own changes.

    Raises one ConfigError with the problems of all.
    """
    linked, before = {}, None
    for name, changes in phases.items():
        linked[name] = changes if before is None else {"init.from": parent / before, **changes}
        before = name
    return resolve_variants(config, linked, overrides)


def answer(workdir: Path, step: str, question: str) -> str:
    """What a run directory says to `question`, greedily, until its text ends."""
    run = load(workdir, step)
    generator = Generator(run.model, run.shape.max_seq_len)
    prompt = prompt_tokens(run, question)
    ids = generator.answer(run.params, prompt, stop=run.tokenizer.stop_ids)
    return run.tokenizer.decode(ids)
