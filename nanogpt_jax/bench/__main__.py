"""Measure what this code does beside other ways to do it.

python -m nanogpt_jax.bench ceiling|train|attention [--peer=torch] [--rounds=7] [--json=FILE]
python -m nanogpt_jax.bench decode --workdir=DIR [--step=N|last|best] [--draft=lookup|DIR]
    [--rounds=7] [--json=FILE]
python -m nanogpt_jax.bench serve --workdir=DIR [--step=N|last|best] [--peer=transformers]
    [--seconds=20] [--json=FILE]
"""

from __future__ import annotations

import dataclasses
import json as json_
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from absl import logging

from nanogpt_jax import cli, experiment
from nanogpt_jax.bench import decode as decoding
from nanogpt_jax.bench import serve as serving
from nanogpt_jax.bench.contest import compete
from nanogpt_jax.bench.figures import Limits, render, render_fairness
from nanogpt_jax.bench.suites import SUITES
from nanogpt_jax.bench.verdict import Line, judge
from nanogpt_jax.bench.verdict import render as render_lines
from nanogpt_jax.registry import non_negative, positive
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


def serve(
    *,
    workdir: cli.Workdir,
    step: cli.Step = "last",
    peer: Annotated[Literal["", "transformers"], "what else generates, behind our server"] = "",
    peer_threads: Annotated[int, "of its arithmetic; 0 = as many as it likes", non_negative] = 1,
    seconds: Annotated[float, "of each load on each server", positive] = 20.0,
    max_tokens: Annotated[int, "tokens of an answer", positive] = 64,
    slots: Annotated[int, "generations at once, of each server", positive] = 8,
    queue_length: Annotated[int, "generations that wait, of each server", positive] = 16,
    ttft_seconds: Annotated[float, "goodput: most to the first token", positive] = 1.0,
    tpot_seconds: Annotated[float, "goodput: most per token after it", positive] = 0.1,
    json: Annotated[str, "file for all figures"] = "",
) -> None:
    """The server under load: alone, at capacity, and at 0.5, 1, 2 and 8 times that."""
    limits = Limits(ttft_seconds, tpot_seconds)
    plan = serving.Plan(
        workdir=workdir,
        step=step,
        peer=peer,
        peer_threads=peer_threads,
        seconds=seconds,
        max_tokens=max_tokens,
        slots=slots,
        queue_length=queue_length,
        limits=limits,
    )
    rows, shares = serving.measure(plan, logging.info)
    print(render(rows, limits))
    print(render_fairness(shares))
    if json:
        found = serving.describe(plan)
        found |= {"rows": [dataclasses.asdict(row) for row in rows]}
        found |= {"fairness": [dataclasses.asdict(share) for share in shares]}
        write_whole(Path(json), json_.dumps(found, indent=1))


def _plain(found: decoding.Speculation | None) -> dict[str, int] | None:
    return None if found is None else dataclasses.asdict(found)


def _suite(name: str) -> Callable[..., None]:
    def run(
        *,
        peer: Annotated[Literal["", "torch"], "who else does the work"] = "",
        rounds: Annotated[int, "rounds of each contestant, taking turns", positive] = 7,
        json: Annotated[str, "file for the rates of every round"] = "",
    ) -> None:
        cli.quiet()
        lines: list[Line] = []
        for contest in SUITES[name](peer == "torch"):
            logging.info("%s", contest.row)
            lines += judge(contest, compete(contest.contestants, rounds))
        print(render_lines(lines))
        if json:
            write_whole(Path(json), json_.dumps([line.as_json() for line in lines], indent=1))

    run.__doc__ = SUITES[name].__doc__
    return run


COMMANDS = {**{name: _suite(name) for name in SUITES}, "decode": decode, "serve": serve}

if __name__ == "__main__":
    cli.run(COMMANDS, __doc__)
