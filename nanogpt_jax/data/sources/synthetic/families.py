"""The processes that a name and a few numbers make: Markov chains and unifilar hidden ones.

A function's signature is its schema, as everywhere. Rows are uneven by chance: each is drawn from a
Dirichlet distribution, and a little is then spread evenly, so that every text over the alphabet is
possible, every state can be reached and no character costs more than ln(V / SPREAD) nats.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Annotated

import numpy as np

from nanogpt_jax.data.sources.synthetic.process import Process
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import Rule, seed_range

# The first 27 are those of Shannon's English (1951, doi:10.1002/j.1538-7305.1951.tb01366.x).
ALPHABET = f"{string.ascii_lowercase} {string.ascii_uppercase}{string.digits}{string.punctuation}"
SPREAD = 0.01
# Their shares of time cost the cube of their number: 1024 take less than a second.
MAX_STATES = 1024


def between(low: float, high: float) -> Rule:
    """The rule that a value lies between two bounds, both allowed."""
    return Rule(f"lie between {low} and {high}", lambda value: low <= value <= high)


AlphabetSize = Annotated[int, between(2, len(ALPHABET))]
Concentration = Annotated[
    float, "of a row's Dirichlet distribution: below 1 uneven, above 1 even", between(0.01, 100)
]
Seed = Annotated[int, "seed of the rows, and of the text", seed_range]


def markov(
    *,
    order: Annotated[int, "characters that the next one depends on", between(1, 10)] = 2,
    states: Annotated[AlphabetSize, "different characters"] = 8,
    concentration: Concentration = 0.5,
    seed: Seed = 0,
) -> Process:
    """A Markov chain: the last `order` characters are the state, and all that matters."""
    contexts = states**order
    if contexts > MAX_STATES:
        raise ConfigError(
            f"data.source=synthetic:markov?order={order}&states={states} has {contexts} contexts "
            f"of {order} characters, at most {MAX_STATES} are allowed; lower order or states"
        )
    odds_SV = _draw_rows(np.random.default_rng(seed), contexts, states, concentration)
    next_SV = (np.arange(contexts)[:, None] * states + np.arange(states)) % contexts
    return Process(ALPHABET[:states], odds_SV, next_SV)


def hmm(
    *,
    states: Annotated[int, "hidden states", between(1, MAX_STATES)] = 8,
    symbols: Annotated[AlphabetSize, "different characters"] = 4,
    concentration: Concentration = 0.5,
    seed: Seed = 0,
) -> Process:
    """A hidden chain: state and character give the next state, by chance but for a ring.

    One character of each state leads to the state after it, so that all can be reached.
    """
    generator = np.random.default_rng(seed)
    odds_SV = _draw_rows(generator, states, symbols, concentration)
    next_SV = generator.integers(states, size=(states, symbols))
    ring_S = np.arange(states)
    next_SV[ring_S, generator.integers(symbols, size=states)] = (ring_S + 1) % states
    return Process(ALPHABET[:symbols], odds_SV, next_SV)


def _draw_rows(
    generator: np.random.Generator, rows: int, columns: int, concentration: float
) -> np.ndarray:
    odds_SV = generator.dirichlet(np.full(columns, concentration), rows)
    return (1 - SPREAD) * odds_SV + SPREAD / columns


FAMILIES: dict[str, Callable[..., Process]] = {"markov": markov, "hmm": hmm}
