"""`bench serve`: our server, and a peer behind the same HTTP shell, under the same loads in turns.

Unloaded, at capacity, then at multiples of our capacity on Poisson timetables, the same for both;
last a client of few words beside one that takes all it can. Requests are greedy, so that both draw
the same tokens; their prompts are pieces of what the run itself has written. Servers are processes
of their own, started here and met over sockets alone: no model is opened in this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nanogpt_jax import record, tokenization
from nanogpt_jax.bench import conditions
from nanogpt_jax.bench.figures import PERCENTILES, Fairness, Limits, Row, spread, summarise
from nanogpt_jax.bench.load import Target, arrivals, ask_on_time, keep_asking
from nanogpt_jax.bench.servers import fetch, started
from nanogpt_jax.errors import ConfigError, NanogptError
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.tokenization import Tokenizer

OURS = "ours"
MODULES = {OURS: "nanogpt_jax.serve", "transformers": "nanogpt_jax.bench.peers"}
PACKAGES = ("fastapi", "uvicorn", "pydantic", "torch", "transformers")
FACTORS = (0.5, 1, 2, 8)  # of our capacity

PROMPTS = 1024
SHORTEST_PROMPT = 8
TEXTS, TEXT_TOKENS = 16, 128  # what the run writes to cut prompts from
WARMING_SECONDS = 1.0

# Addresses of this machine, so that the server sees two clients.
HOG, LIGHT = "127.0.0.2", "127.0.0.1"
HOG_STREAMS = 32
LIGHT_TOKENS = 16
SETTLING_SECONDS = 1.0

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    workdir: Path
    step: str
    peer: str
    peer_threads: int
    seconds: float
    max_tokens: int
    slots: int
    queue_length: int
    limits: Limits

    @property
    def ways(self) -> list[str]:
        """Our server, and perhaps a peer."""
        return [OURS, self.peer] if self.peer else [OURS]

    def variables(self, way: str) -> dict[str, str]:
        """The environment of a server."""
        if way == OURS:
            return {}
        # The weights of a peer go through jax, which is to leave accelerators to it.
        found = {"JAX_PLATFORMS": "cpu"}
        return found | {"OMP_NUM_THREADS": str(self.peer_threads)} if self.peer_threads else found

    def words(self) -> list[str]:
        """The flags of a server."""
        caps = {"rate": 0, "slots": self.slots, "queue_length": self.queue_length}
        flags = [f"--{name}={value}" for name, value in caps.items()]
        return [f"--workdir={self.workdir}", f"--step={self.step}", "--port=0", *flags]


class Requests(NamedTuple):
    """Bodies of requests, which every server gets in the same order."""

    mixed: list[bytes]  # prompts of all lengths, answers of the plan's
    long: list[bytes]  # answers as long as can be
    short: list[bytes]


def measure(plan: Plan, say: Say) -> tuple[list[Row], list[Fairness]]:
    """All rows; `say` hears what is done next. ConfigError where the context is too short.

    NanogptError where a server does not start, or serves nobody.
    """
    context, cap = record.read(plan.workdir).shape.max_seq_len, Caps().max_tokens
    if plan.max_tokens > min(context - 1, cap):
        raise ConfigError(
            f"--max_tokens={plan.max_tokens}: at most {min(context - 1, cap)} are required, so "
            f"that a prompt fits beside them into the context of {context}"
        )
    try:
        socket.create_server((HOG, 0)).close()
    except OSError as error:
        raise NanogptError(
            f"this system has no address {HOG}, required for a second client; on macOS, "
            f"`ifconfig lo0 alias {HOG}` adds it"
        ) from error
    tokenizer = tokenization.load(plan.workdir / "tokenizer.json")
    with contextlib.ExitStack() as running:
        ports = {}
        for way in plan.ways:
            say(f"{way}: starting")
            ports[way] = running.enter_context(
                started(MODULES[way], plan.words(), plan.variables(way))
            )
        model = fetch(ports[OURS], "GET", "/v1/models")["data"][0]["id"]
        words = _written_by_the_run(ports[OURS], model, tokenizer, context)
        draw = functools.partial(draw_bodies, model, words)
        lengths = (SHORTEST_PROMPT, context - plan.max_tokens)
        longest = max(min(context - SHORTEST_PROMPT, cap), 1)
        requests = Requests(
            mixed=draw(lengths, plan.max_tokens, PROMPTS),
            long=draw((1, SHORTEST_PROMPT), longest, HOG_STREAMS),
            short=draw(lengths, min(LIGHT_TOKENS, plan.max_tokens), PROMPTS),
        )
        return asyncio.run(_measure(plan, ports, requests, say))


def draw_bodies(
    model: str, words: Sequence[int], lengths: tuple[int, int], max_tokens: int, count: int
) -> list[bytes]:
    """Requests whose prompts are pieces of `words`, of the shortest to the longest length."""
    rng = np.random.default_rng(0)
    bodies = []
    for length in rng.integers(min(lengths), lengths[1] + 1, count):
        start = rng.integers(len(words) - length + 1)
        bodies.append(_body(model, words[start : start + length], max_tokens))
    return bodies


async def _measure(
    plan: Plan, ports: Mapping[str, int], requests: Requests, say: Say
) -> tuple[list[Row], list[Fairness]]:
    rows, capacity = [], 0.0
    for port in ports.values():
        await keep_asking(Target(port), requests.mixed, plan.slots, WARMING_SECONDS)
    for load, workers in (("unloaded", 1), ("capacity", plan.slots)):
        for way, port in ports.items():
            say(f"{load}: {way}")
            phase = await keep_asking(Target(port), requests.mixed, workers, plan.seconds)
            rows.append(summarise(load, way, phase, plan.limits))
            if way == OURS:
                capacity = phase.finished_per_second(plan.seconds)
    if not capacity:
        raise NanogptError(f"nobody was served in {plan.seconds:g} s; give it more --seconds")
    for seed, factor in enumerate(FACTORS):
        moments = arrivals(factor * capacity, plan.seconds, seed)
        for way, port in ports.items():
            load = f"{factor:g} C"
            say(f"{load}: {way}")
            phase = await ask_on_time(Target(port), requests.mixed, moments)
            rows.append(summarise(load, way, phase, plan.limits, factor * capacity))
    shares = []
    for way, port in ports.items():
        say(f"fairness: {way}")
        shares.append(await _share(way, port, requests, plan.seconds))
    return rows, shares


async def _share(way: str, port: int, requests: Requests, seconds: float) -> Fairness:
    light, hog = Target(port, LIGHT), Target(port, HOG)
    alone = await keep_asking(light, requests.short, 1, seconds)
    hogging = asyncio.create_task(keep_asking(hog, requests.long, HOG_STREAMS, float("inf")))
    await asyncio.sleep(SETTLING_SECONDS)
    beside = await keep_asking(light, requests.short, 1, seconds)
    hogging.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await hogging
    return Fairness(
        way,
        spread([each.ttft_seconds for each in alone.served]),
        spread([each.ttft_seconds for each in beside.served]),
        [each.status for each in beside.answers if each.status != 200],
    )


def _written_by_the_run(port: int, model: str, tokenizer: Tokenizer, context: int) -> list[int]:
    """Tokens that the run has written, at least as many as fit into its context."""
    form = {"model": model, "prompt": [tokenizer.bos_id]}
    form["max_tokens"] = min(TEXT_TOKENS, context - 1)
    tokens: list[int] = []
    for seed in range(TEXTS):
        answer = fetch(port, "POST", "/v1/completions", {**form, "seed": seed})
        tokens += map(int, tokenizer.encode(answer["choices"][0]["text"]))
    return np.resize(tokens or [tokenizer.bos_id], max(len(tokens), context)).tolist()


def _body(model: str, prompt: Sequence[int], max_tokens: int) -> bytes:
    """A request for a greedy stream that tells how many tokens it had."""
    form = {"model": model, "prompt": list(prompt), "max_tokens": max_tokens, "temperature": 0}
    return json.dumps(form | {"stream": True, "stream_options": {"include_usage": True}}).encode()


def describe(plan: Plan) -> dict[str, Any]:
    """What was measured, on what, with what."""
    settings = dataclasses.asdict(plan) | {"workdir": plan.workdir.name}
    arguments = {"command": "serve", **settings, "limits": plan.limits._asdict()}
    return {
        **conditions.describe(arguments, PACKAGES),
        "model": record.read(plan.workdir).model,
        "percentiles": PERCENTILES,
    }
