"""`bench decode --workdir=RUN`: naive against cached generation, with drafts and without.

Naive reads the whole text (as far as the context reaches) for every token; cached reads the prompt
once. Both are the engine's own slots, and both draw the same tokens, which is checked. Beyond the
context the window slides, and then cached generation reads as much as naive does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nanogpt_jax.bench.rounds import Estimate, alternate, speed_up
from nanogpt_jax.decoding import Decoding
from nanogpt_jax.experiment import Loaded
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.slots import Proposer, Request, Slots

PROMPT_TOKENS = (10, 50, 100)
NEW_TOKENS = (50, 100, 200)
TEXTS = Sampling(temperature=0.8, seed=0)


@dataclasses.dataclass(frozen=True)
class Speculation:
    """What drafts did: tokens guessed, guesses that held, and the steps of the model."""

    drafted: int
    accepted: int


class Row(NamedTuple):
    """One way of generating at one length: seconds of a text over the rounds."""

    way: str
    prompt_tokens: int
    new_tokens: int
    seconds: list[float]
    speed_up: Estimate | None  # over naive; None for naive
    speculation: Speculation | None

    @property
    def tokens_per_second(self) -> float:
        """Of the median round."""
        return self.new_tokens / float(np.median(self.seconds))


class _Way:
    """One way to generate, and the tokens that it made last."""

    def __init__(self, decoding: Decoding, run: Loaded, proposer: Proposer | None = None):
        self._slots = Slots(decoding, run.params, 1, proposer)
        self._slots.warm_up()
        self._speculates = proposer is not None
        self.tokens: list[int] = []

    def generate(self, prompt: Sequence[int], new_tokens: int) -> None:
        """Draws so many tokens after `prompt`."""
        request = Request(prompt=prompt, sampling=TEXTS, max_tokens=new_tokens)
        slot, progress = self._slots.begin(request)
        self.tokens = [each.token for each in progress.drawn]
        while progress.finish is None:
            progress = self._slots.step()[slot]
            self.tokens += [each.token for each in progress.drawn]

    def speculation(self, before: Speculation | None) -> Speculation | None:
        """What drafts did since `before`."""
        if not self._speculates:
            return None
        drafted, accepted = self._slots.drafted, self._slots.accepted
        if before:
            drafted, accepted = drafted - before.drafted, accepted - before.accepted
        return Speculation(drafted, accepted)


def measure(
    run: Loaded,
    prompt: Sequence[int],
    proposers: dict[str, Proposer],
    *,
    rounds: int,
    prompt_tokens: Sequence[int] = PROMPT_TOKENS,
    new_tokens: Sequence[int] = NEW_TOKENS,
) -> list[Row]:
    """The rows of the table; prompts are the beginnings of a text that the run wrote itself.

    RuntimeError if two ways draw different tokens.
    """
    context = run.shape.max_seq_len
    cached = Decoding(run.model, context)
    naive = Decoding(run.model._replace(empty_cache=None), context)
    ways = {"naive": _Way(naive, run), "cached": _Way(cached, run)}
    ways |= {f"cached, {name}": _Way(cached, run, each) for name, each in proposers.items()}
    writer = _Way(cached, run)
    writer.generate(prompt, max(prompt_tokens))
    text = [*prompt, *writer.tokens]
    rows = []
    for length in prompt_tokens:
        for count in new_tokens:
            before = {name: way.speculation(None) for name, way in ways.items()}
            work = {
                name: functools.partial(way.generate, text[:length], count)
                for name, way in ways.items()
            }
            seconds = alternate(work, rounds)
            if any(way.tokens != ways["naive"].tokens for way in ways.values()):
                raise RuntimeError(f"the ways disagree: {length} and {count} tokens; report this")
            rows += [
                Row(
                    name,
                    length,
                    count,
                    seconds[name],
                    None if name == "naive" else speed_up(seconds["naive"], seconds[name]),
                    way.speculation(before[name]),
                )
                for name, way in ways.items()
            ]
    return rows


def render(rows: Sequence[Row], context: int) -> str:
    """The rows as a table, times in milliseconds a text."""
    titles = ("prompt", "new", "way", "min", "max", "mean", "p50", "p95", "tokens/s", "speed-up")
    lines = ["".join(f"{title:>{width}}" for title, width in zip(titles, WIDTHS, strict=True))]
    lines[0] += "  drafts held"
    for row in rows:
        ms = np.array(row.seconds) * 1000
        times = (ms.min(), ms.max(), ms.mean(), np.median(ms), np.percentile(ms, 95))
        cells = [str(row.prompt_tokens), str(row.new_tokens), row.way, *map(_three, times)]
        cells += [
            _three(row.tokens_per_second),
            f"{row.speed_up.value:.2f}" if row.speed_up else "",
        ]
        line = "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
        if row.speculation and row.speculation.drafted:
            share = row.speculation.accepted / row.speculation.drafted
            line += f"{share:>10.0%} of {row.speculation.drafted}"
        lines.append(line)
    lines.append(
        f"milliseconds a text; the context is {context} tokens, beyond which every token reads a "
        "whole window"
    )
    return "\n".join(lines)


WIDTHS = (7, 5, 18, 10, 10, 10, 10, 10, 10, 10)


def _three(number: float) -> str:
    """Three digits that count."""
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"
