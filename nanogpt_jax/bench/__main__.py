"""Measure what this code does beside other ways to do it.

python -m nanogpt_jax.bench ceiling|train|attention|gpu [--peer=torch] [--rounds=7] [--json=FILE]
python -m nanogpt_jax.bench race [--data=shakespeare] [--peer=torch] [--rounds=7] [--json=FILE]
python -m nanogpt_jax.bench microgpt|startup|data|growth|plan [--rounds=7] [--json=FILE]
python -m nanogpt_jax.bench decode [--peer=transformers] [--rounds=7] [--json=FILE]
python -m nanogpt_jax.bench decode --workdir=DIR [--step=N|last|best] [--draft=lookup|DIR]
    [--rounds=7] [--json=FILE]
python -m nanogpt_jax.bench serve --workdir=DIR [--step=N|last|best] [--peer=transformers]
    [--seconds=20] [--json=FILE]
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json as json_
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from absl import logging

from nanogpt_jax import cli, experiment
from nanogpt_jax.bench import conditions, generation
from nanogpt_jax.bench import decode as decoding
from nanogpt_jax.bench import race as racing
from nanogpt_jax.bench import serve as serving
from nanogpt_jax.bench.contest import compete
from nanogpt_jax.bench.figures import Limits, render, render_fairness
from nanogpt_jax.bench.gpu import gpu
from nanogpt_jax.bench.suites import ALONE, BESIDE_PEERS, Contest
from nanogpt_jax.bench.verdict import Line, judge
from nanogpt_jax.bench.verdict import render as render_lines
from nanogpt_jax.data.sources import kind_of
from nanogpt_jax.errors import MissingExtra
from nanogpt_jax.registry import non_negative, positive
from nanogpt_jax.runtime import describe_devices
from nanogpt_jax.speculation import PromptLookup
from nanogpt_jax.tokenization.writing import write_whole


def decode(
    *,
    workdir: Annotated[str, "run directory whose ways to generate compete; none: fixed sizes"] = "",
    step: cli.Step = "last",
    draft: Annotated[str, "run directory of a smaller model that guesses ahead"] = "",
    peer: Annotated[Literal["", "transformers"], "who else decodes, without a workdir"] = "",
    rounds: Annotated[int, "rounds of each way, taking turns", positive] = 7,
    json: Annotated[str, "file for the times of every round"] = "",
) -> None:
    """Cached generation beside a peer's, or of one run beside naive and with drafts."""
    if not workdir:
        contests = generation.contests(peer == "transformers")
        _hold(contests, rounds, json, {"command": "decode", "peer": peer})
        return
    cli.quiet()
    logging.info(describe_devices())
    run = experiment.load(Path(workdir), step)
    proposers: dict[str, decoding.Proposer] = {"lookup": PromptLookup()}
    if proposer := experiment.open_drafts(draft, run):
        proposers["draft"] = proposer
    prompt = experiment.prompt_tokens(run, "")
    rows = decoding.measure(run, prompt, proposers, rounds=rounds)
    print(decoding.render(rows, run.shape.max_seq_len))
    arguments = {
        "workdir": Path(workdir).name,
        "step": step,
        "draft": Path(draft).name,
        "rounds": rounds,
    }
    found = [row._asdict() | {"speculation": _plain(row.speculation)} for row in rows]
    _write(json, conditions.describe({"command": "decode", **arguments}) | {"rows": found})


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
    found = serving.describe(plan)
    found |= {"rows": [dataclasses.asdict(row) for row in rows]}
    found |= {"fairness": [dataclasses.asdict(share) for share in shares]}
    _write(json, found)


def _plain(found: decoding.Speculation | None) -> dict[str, int] | None:
    return None if found is None else dataclasses.asdict(found)


Rounds = Annotated[int, "rounds of each contestant, taking turns", positive]
Json = Annotated[str, "file for the values of every round"]


def _beside_peers(name: str, suite: Callable[[bool], Sequence[Contest]]) -> Callable[..., None]:
    def run(
        *,
        peer: Annotated[Literal["", "torch"], "who else does the work"] = "",
        rounds: Rounds = 7,
        json: Json = "",
    ) -> None:
        _hold(suite(peer == "torch"), rounds, json, {"command": name, "peer": peer})

    run.__doc__ = suite.__doc__
    return run


def _alone(name: str, suite: Callable[[], Sequence[Contest]]) -> Callable[..., None]:
    def run(*, rounds: Rounds = 7, json: Json = "") -> None:
        _hold(suite(), rounds, json, {"command": name})

    run.__doc__ = suite.__doc__
    return run


def race(
    *,
    peer: Annotated[Literal["", "torch"], "who else trains"] = "",
    data: Annotated[str, "a source of running text"] = "shakespeare",
    rounds: Rounds = 7,
    json: Json = "",
) -> None:
    """From the start of a process to a validation loss, each by its own recipe."""
    arguments = {"command": "race", "peer": peer, "data": kind_of(data)}
    _hold(racing.contests(peer == "torch", data), rounds, json, arguments)


def _hold(
    contests: Sequence[Contest], rounds: int, json: str, arguments: Mapping[str, str]
) -> None:
    """Holds the contests, prints what they say, and writes it down where a file is named."""
    cli.quiet()
    peers = [arguments["peer"]] if arguments.get("peer") else []
    for peer in peers:
        if importlib.util.find_spec(peer) is None:
            raise MissingExtra(f"--peer={peer}", "bench")
    lines: list[Line] = []
    for contest in contests:
        logging.info("%s", contest.row)
        lines += judge(contest, compete(contest.contestants, rounds))
    print(render_lines(lines))
    found = conditions.describe({**arguments, "rounds": rounds}, peers)
    _write(json, found | {"rows": [line.as_json() for line in lines]})


def _write(path: str, found: Mapping[str, Any]) -> None:
    if path:
        write_whole(Path(path), json_.dumps(found, indent=1))


COMMANDS: dict[str, Callable[..., None]] = {
    **{name: _beside_peers(name, suite) for name, suite in {**BESIDE_PEERS, "gpu": gpu}.items()},
    **{name: _alone(name, suite) for name, suite in ALONE.items()},
    "race": race,
    "decode": decode,
    "serve": serve,
}

if __name__ == "__main__":
    cli.run(COMMANDS, __doc__)
